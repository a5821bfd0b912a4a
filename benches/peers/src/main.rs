//! CLIXML side by side on one corpus in one run: ours, psrp-rs 1.0.0, and two floors that make no values at all: a
//! roxmltree tree, and quick-xml's events with borrowed and with owned text.
//!
//! `cargo run --release [rounds [part of a row's name]]`. The rows take turns, so that a busy machine hits all of them; the median counts.

mod corpus;

use std::hint::black_box;
use std::time::Instant;

use exops_psobject::clixml::{Decoder, write_into};
use exops_psobject::{Limits, Value};
use quick_xml::events::Event;

/// Name, megabytes of CLIXML a round, the work.
type Row<'a> = (&'a str, f64, Box<dyn FnMut() + 'a>);

fn main() {
    let rounds: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(7);
    let only = std::env::args().nth(2);
    let objects = corpus::objects();
    let messages: Vec<String> = objects.iter().map(exops_psobject::clixml::write).collect();
    let theirs: Vec<_> = messages.iter().map(|m| psrp_rs::clixml::parse_clixml(m).expect("psrp-rs reads the corpus")).collect();
    let mut decoder = Decoder::new(Limits::default());
    let read: Vec<Value> = messages.iter().map(|m| decoder.read(m.as_bytes()).expect("our own text")).collect();
    assert!(read == objects, "what is measured is right");
    drop(read);

    let size = megabytes(messages.iter().map(String::len).sum());
    let their_size = megabytes(theirs.iter().flatten().map(|value| psrp_rs::clixml::to_clixml(value).len()).sum());
    println!("{} objects, {size:.1} MB of CLIXML, median of {rounds} rounds", objects.len());
    let mut out = String::new();
    let mut rows: Vec<Row<'_>> = vec![
        ("decode exops", size, Box::new(|| messages.iter().for_each(|m| drop(black_box(decoder.read(m.as_bytes())))))),
        ("decode psrp-rs 1.0.0", size, Box::new(|| messages.iter().for_each(|m| drop(black_box(psrp_rs::clixml::parse_clixml(m)))))),
        ("floor roxmltree tree", size, Box::new(|| messages.iter().for_each(|m| drop(black_box(roxmltree::Document::parse(m)))))),
        ("floor quick-xml, owned text", size, Box::new(|| messages.iter().for_each(|m| events(m, true)))),
        ("floor quick-xml, borrowed", size, Box::new(|| messages.iter().for_each(|m| events(m, false)))),
        (
            "encode exops",
            size,
            Box::new(|| {
                for object in &objects {
                    out.clear();
                    write_into(object, &mut out);
                    black_box(&out);
                }
            }),
        ),
        (
            "encode psrp-rs 1.0.0",
            their_size,
            Box::new(|| theirs.iter().flatten().for_each(|value| drop(black_box(psrp_rs::clixml::to_clixml(value))))),
        ),
    ];
    if let Some(only) = only {
        rows.retain(|(name, ..)| name.contains(&only));
    }
    let mut seconds = vec![Vec::new(); rows.len()];
    for _ in 0..rounds {
        for ((.., work), seconds) in rows.iter_mut().zip(&mut seconds) {
            let start = Instant::now();
            work();
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let rates: Vec<f64> = rows.iter().zip(&mut seconds).map(|((_, size, _), seconds)| size / median(seconds)).collect();
    for ((name, ..), rate) in rows.iter().zip(&rates) {
        println!("{name:<30}{rate:>8.0} MB/s");
    }
    if rates.len() < 7 {
        return;
    }
    println!("P1: {:.2} x psrp-rs (aim 3), {:.2} x quick-xml owned (aim 1)", rates[0] / rates[1], rates[0] / rates[3]);
    println!("P2: {:.2} x psrp-rs (aim 2)", rates[5] / rates[6]);
}

fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Pulls every event; `owned` makes a `String` of each name, attribute and text, as a reader without sharing would.
fn events(text: &str, owned: bool) {
    let mut reader = quick_xml::Reader::from_str(text);
    loop {
        match reader.read_event().expect("our own text") {
            Event::Eof => break,
            Event::Start(tag) | Event::Empty(tag) => {
                if owned {
                    black_box(tag.name().as_ref().to_owned());
                }
                for attribute in tag.attributes().flatten() {
                    if owned {
                        black_box(attribute.value.to_string());
                    } else {
                        black_box(&attribute);
                    }
                }
            }
            Event::Text(text) if owned => drop(black_box(text.to_string())),
            event => drop(black_box(event)),
        }
    }
}
