//! One service as a child process: started, its lines passed on with its name in front, stopped.
//!
//! Each child has a process group of its own, so that Ctrl-C reaches this program alone, which then asks every child
//! once. In case this program is killed outright, a shell holds the end of a pipe for each child and asks in its place.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::Command,
    sync::watch,
    task::JoinHandle,
};

use super::{Wish, wish_for};

/// The services' own limit for a clean stop is 15 s.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// A shell that waits for the end of its input, which is the end of this process, and then stops the child.
const LEASH: &str = r#"read -r _; kill -s TERM "$1" 2>/dev/null; exit 0"#;

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) flags: Vec<String>,
}

/// How a service's lines are marked: padded to one width, in a colour of its own on a terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label {
    at: usize,
    width: usize,
}

impl Label {
    pub(crate) fn new(at: usize, width: usize) -> Self {
        Self { at, width }
    }

    fn mark(self, name: &str, line: &str, coloured: bool) -> String {
        let width = self.width;
        if coloured {
            let colour = 36 - self.at % 6;
            format!("\x1b[{colour}m{name:<width$} │\x1b[0m {line}")
        } else {
            format!("{name:<width$} │ {line}")
        }
    }
}

/// A running service.
pub(crate) struct Child {
    name: &'static str,
    process: tokio::process::Child,
    /// Ends with this process, or when the child is gone.
    leash: tokio::process::Child,
    lines: Vec<JoinHandle<()>>,
}

/// How a child ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended(ExitStatus);

impl Ended {
    /// Wrong input, missing rights or topics, a fenced ordinal, a model that does not fit: starting again ends the same.
    pub(crate) fn may_heal(self) -> bool {
        !matches!(self.0.code(), Some(2..=6))
    }

    /// The exit code; 1 for a signal.
    pub(crate) fn code(self) -> u8 {
        self.0.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(code) = self.0.code() else {
            use std::os::unix::process::ExitStatusExt as _;
            let signal = self.0.signal().and_then(|signal| Signal::try_from(signal).ok());
            return f.write_str(signal.map_or("killed by a signal", Signal::as_str));
        };
        let why = match code {
            0 => "it stopped without being asked",
            2 => "invalid input",
            3 => "not authorised",
            4 => "missing or misshapen topic",
            5 => "fenced by another process with the same ordinal",
            6 => "model",
            7 => "no broker answered",
            101 => "it panicked",
            _ => "see its last lines",
        };
        write!(f, "exit code {code} ({why})")
    }
}

impl Child {
    pub(crate) fn start(program: &Program, label: Label) -> io::Result<Self> {
        let mut command = Command::new(&program.path);
        command.args(&program.flags);
        let coloured = io::stderr().is_terminal();
        if coloured {
            command.env("CLICOLOR_FORCE", "1");
        }
        let name = program.name;
        Self::spawn(name, command, move |line: &str| {
            // Nobody reads any more: then there is nobody to tell, either.
            let _ = writeln!(io::stderr().lock(), "{}", label.mark(name, line, coloured));
        })
    }

    /// Starts a command of which every line is given to `pass`.
    fn spawn(
        name: &'static str,
        mut command: Command,
        pass: impl Fn(&str) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn()?;
        let id = process.id().unwrap_or_default();
        let leash = Command::new("sh")
            .args(["-c", LEASH, "leash", &id.to_string()])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let lines = vec![
            tokio::spawn(lines(process.stdout.take(), pass.clone())),
            tokio::spawn(lines(process.stderr.take(), pass)),
        ];
        Ok(Self { name, process, leash, lines })
    }

    /// Waits for its end, and for its last lines.
    pub(crate) async fn ended(&mut self) -> Ended {
        let status = self.process.wait().await;
        let status = status.unwrap_or_else(|error| {
            say(&format!("{}: waiting for its end failed: {error}", self.name));
            ExitStatus::default()
        });
        for line in self.lines.drain(..) {
            // A grandchild could hold the pipe open; nothing of ours does.
            let _ = line.await;
        }
        let _ = self.leash.start_kill();
        Ended(status)
    }

    /// Asks it to stop, and insists when asked twice or when it takes too long.
    pub(crate) async fn stop(mut self, mut wish: watch::Receiver<Wish>) -> Ended {
        if let Some(id) = self.process.id().and_then(|id| i32::try_from(id).ok()) {
            // It may have ended by itself meanwhile, which is as good.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let name = self.name;
        let insist = tokio::select! {
            ended = self.ended() => {
                if ended.code() == 0 {
                    say(&format!("{name} stopped"));
                } else {
                    say(&format!("{name} ended: {ended}"));
                }
                return ended;
            }
            () = tokio::time::sleep(STOP_LIMIT) => "takes too long to stop",
            () = wish_for(Wish::StopNow, &mut wish) => "is not waited for",
        };
        say(&format!(
            "{name} {insist}; killed. What it had not committed will be answered by the next owner"
        ));
        let _ = self.process.start_kill();
        self.ended().await
    }
}

/// Passes on a stream, line by line, until it ends.
async fn lines(stream: Option<impl AsyncRead + Unpin>, pass: impl Fn(&str)) {
    let Some(stream) = stream else { return };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        pass(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']));
        line.clear();
    }
}

/// A line of this program's own.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "twinlane: {line}");
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use tokio::sync::mpsc;

    use super::*;

    fn ended(code: i32) -> Ended {
        Ended(ExitStatus::from_raw(code << 8))
    }

    #[test]
    fn lines_carry_the_services_name_in_one_width() {
        let label = Label::new(0, 16);
        assert_eq!(label.mark("router", "INFO assigned", false), "router           │ INFO assigned");
        assert_eq!(label.mark("router", "x", true), "\x1b[36mrouter           │\x1b[0m x");
    }

    #[test]
    fn what_does_not_heal_is_not_tried_again() {
        for code in 2..=6 {
            assert!(!ended(code).may_heal(), "{code}");
        }
        for code in [0, 1, 7, 101] {
            assert!(ended(code).may_heal(), "{code}");
        }
        let killed = Ended(ExitStatus::from_raw(9));
        assert!(killed.may_heal());
        assert_eq!((killed.to_string().as_str(), killed.code()), ("SIGKILL", 1));
        assert_eq!(ended(6).to_string(), "exit code 6 (model)");
    }

    #[tokio::test]
    async fn a_stream_is_passed_on_line_by_line_whatever_its_bytes() {
        let seen = std::cell::RefCell::new(Vec::new());
        let bytes: &[u8] = b"one\r\n\xff two\nno end";
        lines(Some(bytes), |line| seen.borrow_mut().push(line.to_owned())).await;
        assert_eq!(seen.into_inner(), ["one", "\u{fffd} two", "no end"]);
    }

    fn shell(script: &str) -> (Child, mpsc::UnboundedReceiver<String>) {
        let (said, lines) = mpsc::unbounded_channel();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let child = Child::spawn("shell", command, move |line: &str| {
            let _ = said.send(line.to_owned());
        });
        (child.unwrap(), lines)
    }

    /// A shell whose traps are set: signals before that would end it in any case.
    async fn ready_shell(script: &str) -> Child {
        let (child, mut lines) = shell(script);
        assert_eq!(lines.recv().await.as_deref(), Some("ready"));
        child
    }

    #[tokio::test]
    async fn a_child_that_is_asked_to_stop_gets_sigterm_and_ends_in_its_own_way() {
        let (_wishes, wish) = watch::channel(Wish::Stop);
        let child = ready_shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done").await;
        assert_eq!(child.stop(wish).await.code(), 7);
    }

    #[tokio::test]
    async fn a_child_that_does_not_want_to_stop_is_killed_when_asked_twice() {
        let (_wishes, wish) = watch::channel(Wish::StopNow);
        let child = ready_shell("trap '' TERM; echo ready; exec sleep 60").await;
        assert_eq!(child.stop(wish).await.to_string(), "SIGKILL");
    }

    #[tokio::test]
    async fn the_end_of_a_child_is_its_exit_code() {
        assert_eq!(shell("exit 4").0.ended().await.code(), 4);
    }

    #[tokio::test]
    async fn the_last_lines_of_a_child_come_before_its_end() {
        let (mut child, mut lines) = shell("echo no such model >&2; exit 6");
        child.ended().await;
        assert_eq!(lines.try_recv().as_deref(), Ok("no such model"));
    }
}
