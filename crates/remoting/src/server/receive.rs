//! Receive: answered, held, repeated, late; and the times that belong to it.

use exops_psrp::Channel;
use exops_wsman::{CommandState, Fault, Request, answer, xpress};

use super::{Handled, HttpAnswer, ServerSession, Ticket, fault_with};

/// What a client gets that does not say how much it takes: the limit of version 2 servers.
pub(super) const DEFAULT_ENVELOPE: usize = 153_600;
/// Connections on which one held Receive may wait.
const COPIES: usize = 4;
/// Message ids of Receives that are remembered for each channel: a request that was late on its way is known by them.
const KNOWN_RECEIVES: usize = 32;
/// How long the last answer of a channel is kept for a client that does not come back, in milliseconds. One that comes
/// back with its next Receive has got it, so an idle session holds none.
pub(super) const KEPT_TIME: u64 = 600_000;

pub(super) struct Held {
    ticket: Ticket,
    /// The same request, repeated: whichever connection is alive gets the answer.
    copies: Vec<Ticket>,
    pub(super) channel: Channel,
    /// The command id as the client wrote it.
    command_id: Option<String>,
    message_id: String,
    max_envelope: usize,
    deadline: u64,
}

pub(super) struct LastAnswer {
    message_id: String,
    /// `None` when it was given and is no longer kept.
    answer: Option<HttpAnswer>,
    /// Then nobody asks for it any more.
    pub(super) expires: u64,
}

impl ServerSession {
    pub(super) fn receive(&mut self, request: &Request, command_id: Option<&str>, now_ms: u64) -> Handled {
        let channel = match self.channel(command_id) {
            Ok(channel) => channel,
            Err(fault) => return self.refuse(&fault, request),
        };
        if let Some(last) = self.last.get_mut(&channel).filter(|last| last.message_id == request.message_id) {
            if let Some(answer) = &last.answer {
                last.expires = now_ms.saturating_add(KEPT_TIME);
                return Handled::Answer(answer.clone());
            }
            let text = "the answer to this Receive was given and is no longer kept; what it held is lost";
            return self.refuse(&Fault::new(Fault::PLUGIN_EXCEPTION, text), request);
        }
        if self.is_late(channel, &request.message_id) {
            return self.refuse(&Fault::timed_out(), request);
        }
        self.last.remove(&channel);
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        if let Some(held) = self.held.iter_mut().find(|held| held.channel == channel && held.message_id == request.message_id) {
            held.copies.push(ticket);
            // The oldest connection is the one that is surely dead.
            let oldest = (held.copies.len() > COPIES).then(|| std::mem::replace(&mut held.ticket, held.copies.remove(0)));
            if let Some(oldest) = oldest {
                let id = self.next_message_id();
                self.ready.push_back((oldest, fault_with(&Fault::timed_out(), Some(&request.message_id), &id)));
            }
            return Handled::Held(ticket);
        }
        // A second Receive means that the connection of the first is dead (case X-08).
        self.end_held(|held| held.channel == channel, &Fault::timed_out());
        let timeout = request.operation_timeout.unwrap_or(self.operation_timeout).min(self.max_operation_timeout);
        let held = Held {
            ticket,
            copies: Vec::new(),
            channel,
            command_id: command_id.map(str::to_owned),
            message_id: request.message_id.clone(),
            max_envelope: request.max_envelope_size.unwrap_or(DEFAULT_ENVELOPE).min(self.max_envelope),
            deadline: now_ms.saturating_add(timeout),
        };
        match self.produce(&held, now_ms) {
            Some(answer) => Handled::Answer(answer),
            None => {
                self.held.push(held);
                Handled::Held(ticket)
            }
        }
    }

    /// Whether a Receive was overtaken by a later one of its channel. Nobody waits for its answer any more: data that it got
    /// would be lost.
    fn is_late(&mut self, channel: Channel, message_id: &str) -> bool {
        let known = self.receives.entry(channel).or_default();
        if known.iter().any(|id| id == message_id) {
            return known.back().is_some_and(|newest| newest != message_id);
        }
        if known.len() == KNOWN_RECEIVES {
            known.pop_front();
        }
        known.push_back(message_id.to_owned());
        false
    }

    /// The answer to a Receive, if there is something to answer now.
    pub(super) fn produce(&mut self, held: &Held, now_ms: u64) -> Option<HttpAnswer> {
        let id = match held.channel {
            Channel::Pipeline(id) => Some(id),
            Channel::Pool => None,
        };
        let command_id = held.command_id.as_deref();
        if self.pool.has_output(held.channel) {
            // "Done" never travels with data: PowerShell's client on Unix would not see it.
            let state = id.map(|_| CommandState::Running);
            let message_id = self.next_message_id();
            let capacity = answer::receive_capacity(held.max_envelope, command_id, state, &held.message_id, &message_id);
            let data = if self.compressed {
                xpress::compress(&self.pool.take(held.channel, xpress::capacity(capacity)))
            } else {
                self.pool.take(held.channel, capacity)
            };
            let answer = HttpAnswer::ok(answer::receive(command_id, &data, state, &held.message_id, &message_id));
            let expires = now_ms.saturating_add(KEPT_TIME);
            self.last.insert(held.channel, LastAnswer { message_id: held.message_id.clone(), answer: Some(answer.clone()), expires });
            return Some(answer);
        }
        if id.is_some_and(|id| self.pool.is_drained(id)) {
            let message_id = self.next_message_id();
            return Some(HttpAnswer::ok(answer::receive(command_id, &[], Some(CommandState::Done), &held.message_id, &message_id)));
        }
        None
    }

    pub(super) fn end_held(&mut self, which: impl Fn(&Held) -> bool, fault: &Fault) {
        let (ended, kept) = std::mem::take(&mut self.held).into_iter().partition(|held| which(held));
        self.held = kept;
        let ended: Vec<Held> = ended;
        for held in ended {
            let id = self.next_message_id();
            let answer = fault_with(fault, Some(&held.message_id), &id);
            // The answer of that request, should it be repeated.
            let (message_id, expires) = (held.message_id.clone(), u64::MAX);
            self.last.insert(held.channel, LastAnswer { message_id, answer: Some(answer.clone()), expires });
            self.give(&held, &answer);
        }
    }

    pub(super) fn give(&mut self, held: &Held, answer: &HttpAnswer) {
        self.ready.extend(held.copies.iter().chain([&held.ticket]).map(|ticket| (*ticket, answer.clone())));
    }

    /// An answer to a held request.
    pub fn poll_answer(&mut self, now_ms: u64) -> Option<(Ticket, HttpAnswer)> {
        if let Some(ready) = self.ready.pop_front() {
            return Some(ready);
        }
        for index in 0..self.held.len() {
            let held = self.held.swap_remove(index);
            if let Some(answer) = self.produce(&held, now_ms) {
                self.give(&held, &answer);
                return self.ready.pop_front();
            }
            self.held.push(held);
            let last = self.held.len() - 1;
            self.held.swap(index, last);
        }
        None
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.closed {
            return None;
        }
        let idle = self.last_activity.saturating_add(self.idle_timeout);
        let next = self.held.iter().map(|h| h.deadline).min().unwrap_or(idle);
        // What a client that left did not get is kept for its return.
        let kept = self.last.values().map(|l| l.expires).min().filter(|_| !self.disconnected);
        Some(kept.unwrap_or(next).min(next))
    }

    /// Ends Receives that were held for their time, and the shell when no request came for its idle time-out.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        if self.closed {
            return;
        }
        let connected = !self.disconnected;
        for last in self.last.values_mut().filter(|last| connected && last.expires <= now_ms) {
            (last.answer, last.expires) = (None, u64::MAX);
        }
        if self.held.iter().any(|h| h.deadline <= now_ms) {
            self.last_activity = now_ms;
            self.end_held(|held| held.deadline <= now_ms, &Fault::timed_out());
        } else if self.held.is_empty() && self.last_activity.saturating_add(self.idle_timeout) <= now_ms {
            self.end(Some(now_ms));
        }
    }

    /// The connection on which a held Receive waited is gone. Its data waits for the next one; without one the shell counts
    /// as left behind after [`ServerConfig::broken_after`](super::ServerConfig::broken_after).
    pub fn connection_gone(&mut self, ticket: Ticket, now_ms: u64) {
        let Some(index) = self.held.iter().position(|held| held.ticket == ticket || held.copies.contains(&ticket)) else { return };
        if let Some(held) = self.held.get_mut(index) {
            match held.copies.iter().position(|copy| *copy == ticket) {
                Some(copy) => drop(held.copies.swap_remove(copy)),
                None => match held.copies.pop() {
                    Some(copy) => held.ticket = copy,
                    None => drop(self.held.swap_remove(index)),
                },
            }
        }
        if self.held.is_empty() {
            (self.broken, self.last_activity) = (true, now_ms);
        }
    }
}
