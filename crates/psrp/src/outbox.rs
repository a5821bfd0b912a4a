use std::collections::{HashMap, VecDeque};

use exops_psobject::{Value, clixml};
use uuid::Uuid;

use crate::fragment::{END, HEADER as FRAGMENT_HEADER, START};
use crate::message::{HEADER as MESSAGE_HEADER, header};
use crate::{Message, MessageType};

/// A message is not begun in an answer when less than this would fit: it would cost a header for a splinter.
const SMALLEST_PART: usize = 1_024;

struct Entry {
    object_id: u64,
    header: [u8; MESSAGE_HEADER],
    /// Length of the content in `text`.
    content: usize,
    /// Bytes of header and content that went out.
    sent: usize,
    next_fragment: u64,
}

impl Entry {
    fn remaining(&self) -> usize {
        MESSAGE_HEADER + self.content - self.sent
    }
}

/// Messages of one channel that wait to be sent. Objects are serialised straight into one buffer; fragments are cut when
/// it is known how much the next answer may hold.
#[derive(Default)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    /// Contents of the entries, one after the other.
    text: String,
    /// Bytes of `text` in front that went out with entries that are gone.
    gone: usize,
}

impl Outbox {
    /// Queues a message whose content is one value; `Null` has an empty content, as PowerShell writes it.
    pub(crate) fn push(&mut self, object_id: u64, destination: u32, kind: MessageType, pool_id: Uuid, pipeline_id: Uuid, value: &Value) {
        let before = self.text.len();
        if !value.is_null() {
            clixml::write_into(value, &mut self.text);
        }
        let content = self.text.len() - before;
        let header = header(destination, kind, pool_id, pipeline_id);
        self.entries.push_back(Entry { object_id, header, content, sent: 0, next_fragment: 0 });
    }

    /// `true` when nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that wait, without fragment headers.
    #[must_use]
    pub fn len(&self) -> usize {
        let contents = self.text.len() - self.gone - self.entries.front().map_or(0, |e| e.sent.saturating_sub(MESSAGE_HEADER));
        contents + self.entries.len() * MESSAGE_HEADER
    }

    /// Appends whole fragments to `out` until nothing waits or `out` would have more than `capacity` bytes.
    pub fn take(&mut self, capacity: usize, out: &mut Vec<u8>) {
        self.take_fragments(usize::MAX, capacity, out);
    }

    /// As [`take`](Self::take), at most `count` fragments.
    pub(crate) fn take_fragments(&mut self, count: usize, capacity: usize, out: &mut Vec<u8>) {
        for _ in 0..count {
            let Some(entry) = self.entries.front_mut() else { break };
            let room = capacity.saturating_sub(out.len()).saturating_sub(FRAGMENT_HEADER);
            let part = entry.remaining().min(room).min(u32::MAX as usize);
            let whole = part == entry.remaining();
            if part == 0 || (!whole && part < SMALLEST_PART && !out.is_empty()) {
                break;
            }
            let flags = if entry.next_fragment == 0 { START } else { 0 } | if whole { END } else { 0 };
            out.extend_from_slice(&entry.object_id.to_be_bytes());
            out.extend_from_slice(&entry.next_fragment.to_be_bytes());
            out.push(flags);
            out.extend_from_slice(&u32::try_from(part).unwrap_or(u32::MAX).to_be_bytes());
            let end = entry.sent + part;
            out.extend_from_slice(entry.header.get(entry.sent..end.min(MESSAGE_HEADER)).unwrap_or_default());
            let (from, to) = (entry.sent.saturating_sub(MESSAGE_HEADER), end.saturating_sub(MESSAGE_HEADER));
            out.extend_from_slice(self.text.as_bytes().get(self.gone + from..self.gone + to).unwrap_or_default());
            entry.sent = end;
            entry.next_fragment += 1;
            if whole {
                self.gone += entry.content;
                self.entries.pop_front();
            }
        }
        self.compact();
    }

    /// Loses the oldest messages of which nothing went out until at most `limit` bytes wait. The last one stays: it tells
    /// how a pipeline ended.
    pub(crate) fn drop_oldest(&mut self, limit: usize) {
        let mut excess = self.len().saturating_sub(limit);
        let first = usize::from(self.entries.front().is_some_and(|e| e.sent > 0));
        let mut last = first;
        let mut bytes = 0;
        while excess > 0
            && last + 1 < self.entries.len()
            && let Some(entry) = self.entries.get(last)
        {
            excess = excess.saturating_sub(entry.remaining());
            bytes += entry.content;
            last += 1;
        }
        let from = self.gone + if first == 1 { self.entries.front().map_or(0, |e| e.content) } else { 0 };
        self.entries.drain(first..last);
        self.text.drain(from..from + bytes);
    }

    /// Begins every message anew under ids from `next` on, for a client that has none of their fragments. Answers the new id
    /// of each old one.
    pub(crate) fn renumber(&mut self, next: &mut u64) -> HashMap<u64, u64> {
        let mut moved = HashMap::with_capacity(self.entries.len());
        for entry in &mut self.entries {
            moved.insert(entry.object_id, *next);
            entry.object_id = *next;
            entry.sent = 0;
            entry.next_fragment = 0;
            *next += 1;
        }
        moved
    }

    /// Gives back what went out. Moving the rest costs at most as much as serialising it did.
    fn compact(&mut self) {
        if self.entries.is_empty() {
            self.text.clear();
            self.gone = 0;
            // An idle session keeps no buffer of the size of its largest answer.
            self.text.shrink_to(16 << 10);
        } else if self.gone > self.text.len() / 2 {
            self.text.drain(..self.gone);
            self.gone = 0;
        }
    }
}

/// Decodes every object that a stream completed.
pub(crate) fn decode_all(objects: Vec<Vec<u8>>) -> impl Iterator<Item = Result<Message, crate::ProtocolError>> {
    objects.into_iter().map(Message::decode)
}
