//! A question at the terminal whose answer is not shown. However the program ends or is stopped meanwhile (all but
//! `kill -9`), the terminal shows again what is typed.

#[cfg(not(unix))]
pub(crate) fn ask(question: &str) -> std::io::Result<secrecy::SecretString> {
    rpassword::prompt_password(question).map(Into::into)
}

#[cfg(unix)]
pub(crate) use unix::ask;

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::io::{self, Read as _, Write as _};
    use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

    use rustix::process::{Signal, getpid, kill_process};
    use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
    use secrecy::SecretString;
    use tokio::signal::unix::{SignalKind, signal};

    use crate::exit::Exit;

    /// Longest line that a terminal gives, in bytes.
    const LONGEST: usize = 4096;

    /// A question that waits for its answer.
    struct Waiting {
        terminal: File,
        before: Termios,
        question: String,
    }

    static WAITING: Mutex<Option<Waiting>> = Mutex::new(None);

    fn waiting() -> MutexGuard<'static, Option<Waiting>> {
        WAITING.lock().unwrap_or_else(PoisonError::into_inner)
    }

    impl Waiting {
        /// What was typed too early is not part of the answer.
        fn begin(&mut self) -> io::Result<()> {
            let mut hidden = self.before.clone();
            hidden.local_modes.remove(LocalModes::ECHO);
            tcsetattr(&self.terminal, OptionalActions::Flush, &hidden)?;
            self.terminal.write_all(self.question.as_bytes())
        }

        fn end(&mut self) {
            // A terminal that is gone has nothing to show.
            let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
            let _ = self.terminal.write_all(b"\n");
        }
    }

    /// Asks at the terminal of the process, wherever its streams go.
    ///
    /// # Errors
    /// There is no terminal, or it was closed instead of an answer.
    pub(crate) fn ask(question: &str) -> io::Result<SecretString> {
        watch_signals()?;
        let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let mut asked = Waiting { terminal: terminal.try_clone()?, before, question: question.to_owned() };
        {
            // A signal waits until it is known what there is to restore.
            let mut slot = waiting();
            let begun = asked.begin();
            *slot = Some(asked);
            begun
        }
        .and_then(|()| line(&mut terminal))
        .inspect(|_| done())
        .inspect_err(|_| done())
    }

    fn done() {
        if let Some(mut asked) = waiting().take() {
            asked.end();
        }
    }

    fn line(terminal: &mut File) -> io::Result<SecretString> {
        // Never moved, so that no half of a password is left behind in freed memory.
        let mut line = Vec::with_capacity(LONGEST);
        let mut byte = [0];
        loop {
            match terminal.read(&mut byte) {
                Ok(0) if line.is_empty() => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no answer was given")),
                Ok(0) => break,
                Ok(_) if byte == *b"\n" || line.len() == LONGEST => break,
                Ok(_) => line.extend_from_slice(&byte),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        String::from_utf8(line).map(SecretString::from).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the answer is not UTF-8"))
    }

    /// Listens for everything that ends or stops the program, from before the first question to its end.
    fn watch_signals() -> io::Result<()> {
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().build() {
                Ok(runtime) => runtime,
                Err(e) => return drop(tell.send(Err(e))),
            };
            runtime.block_on(async {
                let listen = || {
                    let [interrupt, terminate] = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
                    let [hangup, quit] = [SignalKind::hangup(), SignalKind::quit()].map(signal);
                    let [stop, go_on] = [Signal::TSTP, Signal::CONT].map(|s| signal(SignalKind::from_raw(s.as_raw())));
                    io::Result::Ok((interrupt?, terminate?, hangup?, quit?, stop?, go_on?))
                };
                let (mut interrupt, mut terminate, mut hangup, mut quit, mut stop, mut go_on) = match listen() {
                    Ok(signals) => signals,
                    Err(e) => return drop(tell.send(Err(e))),
                };
                let _ = tell.send(Ok(()));
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => interrupted(false),
                        _ = terminate.recv() => interrupted(false),
                        _ = hangup.recv() => interrupted(true),
                        _ = quit.recv() => interrupted(true),
                        _ = stop.recv() => stopped(),
                        _ = go_on.recv() => resumed(),
                    }
                }
            });
        });
        told.recv().unwrap_or_else(|_| Err(io::Error::other("signals are not heard")))
    }

    /// Ends the program, unless a cmdlet runs that ends by itself when it is asked to.
    fn interrupted(at_once: bool) {
        done();
        if at_once || !crate::run::STOPS_ITSELF.load(std::sync::atomic::Ordering::Relaxed) {
            std::process::exit(Exit::Interrupted.code().into());
        }
    }

    /// Ctrl-Z: stops as if nobody listened. The stop may come a little after the call: what follows waits for SIGCONT.
    fn stopped() {
        if let Some(asked) = waiting().as_mut() {
            asked.end();
        }
        let _ = kill_process(getpid(), Signal::STOP);
    }

    /// Asks anew.
    fn resumed() {
        if let Some(asked) = waiting().as_mut() {
            let _ = asked.begin();
        }
    }
}
