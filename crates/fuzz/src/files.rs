//! Files of exported objects.

use std::io::Cursor;

use exops_psobject::exported::{self, Entry, FileError};
use exops_psobject::{Limits, Value, clixml};

use crate::{Outcome, Problem, phrase, refused, same, taken, wire};

pub(crate) const WORDS: &[&[u8]] = &[
    b"<Objs>",
    b"</Objs>",
    b"<Obj RefId=\"1\">",
    b"</Obj>",
    b"<TN RefId=\"0\"><T>a</T></TN>",
    b"<TNRef RefId=\"0\"/>",
    b"<MS><Ref N=\"a\" RefId=\"1\"/></MS>",
    b"<S N=\"b\">&lt;</S>",
    b"<?xml version=\"1.0\"?>",
    b"{\"value\":[",
    b"],\"Count\":2}",
    b"{\"Name\":\"a\"}",
    b"\"/Date(0)/\"",
    b"\\u0022",
    b"#TYPE a.b\r\n",
    b"\r\n",
    b",",
    b";",
    b"\"\"",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xc3\xbc",
];

/// What a file comes to: its objects and what ended the reading.
struct Read {
    entries: Vec<Entry>,
    end: Option<FileError>,
}

fn read(input: &[u8]) -> Read {
    let mut file = Cursor::new(input);
    let (mut entries, mut end) = (Vec::new(), None);
    match exported::read(&mut file, &wire::LIMITS) {
        Ok(all) => {
            for entry in all {
                match entry {
                    Ok(entry) => entries.push(entry),
                    Err(error) => end = Some(error),
                }
            }
        }
        Err(error) => end = Some(error),
    }
    Read { entries, end }
}

fn shown(read: &Read) -> String {
    let entries: Vec<String> = read.entries.iter().map(|entry| format!("{}: {:?}", entry.line, entry.value)).collect();
    format!("{} {:?}", entries.join("\n"), read.end)
}

pub(crate) fn exported_files(input: &[u8]) -> Result<Outcome, Problem> {
    let one = read(input);
    if let (None, Ok(text)) = (&one.end, std::str::from_utf8(input)) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let wide: Vec<u8> = [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        same("in UTF-16, the same text is read otherwise", &shown(&one), &shown(&read(&wide)))?;
        let limits = Limits { bytes: usize::MAX, ..wire::LIMITS };
        let values: Result<Vec<&Value>, _> = one.entries.iter().map(|entry| entry.value.as_ref()).collect();
        if let (true, Ok(values), Ok(whole)) = (text.trim_start().starts_with('<'), values, clixml::read_document(text.as_bytes(), &limits))
        {
            // As text: a NaN is not equal to itself.
            same(
                "read as a whole, the document has other objects",
                &format!("{:?}", whole.iter().collect::<Vec<_>>()),
                &format!("{values:?}"),
            )?;
        }
    }
    let refusals =
        one.entries.iter().filter_map(|entry| entry.value.as_ref().err()).fold(0, |sum, error| sum ^ phrase(&format!("{error:?}")));
    Ok(one.end.as_ref().map_or(0, refused) ^ refusals ^ taken(&[one.entries.len()]))
}

pub(crate) fn exported_file_seeds() -> Vec<Vec<u8>> {
    let mut seeds = wire::clixml_document_seeds();
    seeds.extend(
        [
            "[{\"Name\":\"a\",\"When\":\"/Date(1723810171000)/\"},\r\n{\"Name\":\"b\",\"List\":[1,null]}]",
            "{\"value\":[{\"Name\":\"a\"},{\"Name\":\"b\"}],\"Count\":2}",
            "{\"Name\":\"a\"}\n{\"Name\":\"\\u00fc\"}\n",
            "#TYPE System.Object\r\n\"Name\";\"Alias\"\r\n\"a; \"\"b\"\"\";'=1\r\n\r\nc;d\r\n",
            "Name,Alias\na,\"line\nline\"\n",
            "<Objs><Obj RefId=\"0\"><TN RefId=\"0\"><T>a</T></TN><MS><S N=\"b\">c</S></MS></Obj><Obj RefId=\"1\"><TNRef RefId=\"0\"/><MS><Ref N=\"d\" RefId=\"0\"/></MS></Obj></Objs>",
        ]
        .map(|text| text.as_bytes().to_vec()),
    );
    seeds
}
