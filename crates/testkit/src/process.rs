//! Processes that a test or the demo starts: each in its own process group, its output in a file, ended with its owner.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::leash::Leash;
use crate::usage::Usage;
use crate::{Error, Result, wait};

/// A child process, killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// It was sent SIGTERM. Twice would mean that it should not wait for anything.
    asked: AtomicBool,
    _leash: Leash,
}

impl Process {
    /// Starts `command` with its output appended to `log`. When *this* process goes away without dropping, the child
    /// is killed and `folder` is removed.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path, folder: Option<&Path>) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.map_err(Error::io(format!("opening {}", log.display())))?;
        let errors = file.try_clone().map_err(Error::io("opening a log twice"))?;
        command.stdout(file).stderr(errors);
        Self::start_attached(name, command, folder)
    }

    /// Starts `command` with its output going where ours goes.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_attached(name: &str, mut command: Command, folder: Option<&Path>) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(Error::io(format!("starting {name} ({})", command.get_program().to_string_lossy())))?;
        match Leash::on(child.id(), folder) {
            Ok(leash) => {
                Ok(Self { name: name.to_owned(), child, asked: AtomicBool::new(false), _leash: leash })
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// The operating system's number for it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, or none while it runs.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// Waits for its end, for as long as it takes, and says whether it succeeded.
    ///
    /// # Errors
    /// When the operating system cannot say.
    pub fn wait(&mut self) -> Result<std::process::ExitStatus> {
        self.child.wait().map_err(Error::io(format!("waiting for {}", self.name)))
    }

    /// Sends SIGTERM to its group, once however often it is called.
    pub fn ask_to_stop(&self) {
        if !self.asked.swap(true, Ordering::Relaxed) {
            self.signal(Signal::SIGTERM);
        }
    }

    /// Sends SIGTERM if it was not asked yet, waits up to `limit`, then SIGKILL; gives the exit code, or none when a signal ended it.
    pub fn stop(&mut self, limit: Duration) -> Option<i32> {
        if self.ended().is_none() {
            self.ask_to_stop();
            wait::until(limit, || self.ended());
        }
        self.kill()
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) -> Option<i32> {
        if self.ended().is_none() {
            self.signal(Signal::SIGKILL);
        }
        self.child.wait().ok().and_then(|status| status.code())
    }

    /// Stops it from running without ending it (SIGSTOP): to its peers it looks hung.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a frozen process go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// The time that its threads have spent on a CPU, in user and kernel mode.
    ///
    /// # Errors
    /// When it has ended, or the operating system has no `/proc`.
    pub fn cpu_time(&self) -> Result<Duration> {
        Ok(Usage::of(self.id())?.cpu)
    }

    fn signal(&self, signal: Signal) {
        // A group that is gone needs no signal.
        let _ = killpg(Pid::from_raw(self.child.id() as i32), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a service is started.
#[derive(Debug, Clone, Default)]
pub struct ServiceOptions {
    /// The name of its log file and of error messages.
    pub name: String,
    /// The binary.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Settings added to the environment.
    pub environment: Vec<(String, String)>,
    /// The folder for its log.
    pub logs: PathBuf,
}

/// A service under test, as its own process.
#[derive(Debug)]
pub struct Service {
    process: Process,
    name: String,
    log: PathBuf,
    // What an earlier process of the same name wrote is not looked at.
    log_start: u64,
}

impl Service {
    /// Starts a service. A second start under the same name appends to the same log.
    ///
    /// # Errors
    /// When the binary cannot be started.
    pub fn spawn(options: &ServiceOptions) -> Result<Self> {
        std::fs::create_dir_all(&options.logs)
            .map_err(Error::io(format!("creating {}", options.logs.display())))?;
        let log = options.logs.join(format!("{}.log", options.name));
        let log_start = std::fs::metadata(&log).map_or(0, |meta| meta.len());
        let mut command = Command::new(&options.program);
        command.args(&options.arguments).envs(options.environment.iter().map(|(name, value)| (name, value)));
        let process = Process::start(&options.name, command, &log, None)?;
        Ok(Self { process, name: options.name.clone(), log, log_start })
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What this process has written so far.
    pub fn output(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap_or(0).min(bytes.len());
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }

    /// Waits until it has written a line that contains `text`, and gives the line.
    ///
    /// # Errors
    /// When it ends before, or does not write it within `limit`; either holds the end of the log.
    pub fn wait_for_line(&mut self, text: &str, limit: Duration) -> Result<String> {
        let found = wait::until(limit, || {
            let line = self.output().lines().find(|line| line.contains(text)).map(str::to_owned);
            line.map(Ok).or_else(|| self.process.ended().map(Err))
        });
        match found {
            Some(Ok(line)) => Ok(line),
            Some(Err(status)) => Err(self.ended_with(status)),
            None => Err(Error::Timeout {
                what: format!("{}'s line with '{text}'", self.name),
                within: limit,
                context: format!("\nthe end of {}:\n{}", self.log.display(), tail(&self.log, 20)),
            }),
        }
    }

    /// Waits until `path` at `address` answers with status 200.
    ///
    /// # Errors
    /// When the service ends before, or does not answer so within `limit`; either holds the end of the log.
    pub fn wait_for_http(&mut self, address: SocketAddr, path: &str, limit: Duration) -> Result<()> {
        let answer = wait::until(limit, || match self.process.ended() {
            Some(status) => Some(Err(status)),
            None => http_status(address, path).is_ok_and(|status| status == 200).then_some(Ok(())),
        });
        match answer {
            Some(Ok(())) => Ok(()),
            Some(Err(status)) => Err(self.ended_with(status)),
            None => Err(Error::Timeout {
                what: format!("{}'s answer at http://{address}{path}", self.name),
                within: limit,
                context: format!("\nthe end of {}:\n{}", self.log.display(), tail(&self.log, 20)),
            }),
        }
    }

    /// Waits until it ends by itself, and gives its exit code, or none when a signal ended it.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<Option<i32>> {
        match wait::until(limit, || self.process.ended()) {
            Some(_) => Ok(self.process.kill()),
            None => Err(Error::Timeout {
                what: format!("the end of {}", self.name),
                within: limit,
                context: format!("\nthe end of {}:\n{}", self.log.display(), tail(&self.log, 20)),
            }),
        }
    }

    /// Fails when the service has ended.
    ///
    /// # Errors
    /// With how it ended and the end of its log.
    pub fn check_running(&mut self) -> Result<()> {
        match self.process.ended() {
            None => Ok(()),
            Some(status) => Err(self.ended_with(status)),
        }
    }

    /// Kills it with SIGKILL, as a machine that goes away would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Asks it to stop with SIGTERM; gives its exit code, or none when it had to be killed after `limit`.
    pub fn stop(&mut self, limit: Duration) -> Option<i32> {
        self.process.stop(limit)
    }

    /// The process, for other signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn ended_with(&self, status: String) -> Error {
        Error::Ended { name: self.name.clone(), status, log: self.log.clone(), tail: tail(&self.log, 20) }
    }
}

/// Asks with `GET` and gives the status of the answer.
fn http_status(address: SocketAddr, path: &str) -> std::io::Result<u16> {
    let (status, _) = ask(address, path)?;
    Ok(status)
}

/// What `path` at `address` answers, whatever its status.
///
/// # Errors
/// When nobody answers there.
pub fn http_get(address: SocketAddr, path: &str) -> Result<String> {
    let answer = ask(address, path).map_err(Error::io(format!("asking http://{address}{path}")))?;
    Ok(answer.1)
}

/// Status and body.
fn ask(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    // HTTP/1.0 has no chunks: what follows the headers is the body.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    // `HTTP/1.0 200`
    let status = answer.get(9..12).and_then(|digits| digits.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other("not an HTTP answer"))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

/// A port of this machine that nobody listens at just now.
///
/// # Errors
/// When the operating system has none.
pub fn free_port() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.map_err(Error::io("finding a free port"))
}

/// The last `count` lines of a file, or nothing where there is none.
pub fn tail(file: &Path, count: usize) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (Service, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let options = ServiceOptions {
            name: "shell".into(),
            program: "sh".into(),
            arguments: vec!["-c".into(), script.into()],
            logs: folder.path().into(),
            ..ServiceOptions::default()
        };
        (Service::spawn(&options).unwrap(), folder)
    }

    #[test]
    fn a_line_is_waited_for_until_it_is_written() {
        let (mut service, _folder) = shell("echo starting; echo ready at 1; sleep 60");
        let line = service.wait_for_line("ready", Duration::from_secs(10)).unwrap();
        assert_eq!(line, "ready at 1");
        service.kill();
    }

    #[test]
    fn a_service_that_ends_early_is_an_error_with_the_end_of_its_log() {
        let (mut service, _folder) = shell("echo no such model >&2; exit 3");
        let error = service.wait_for_line("ready", Duration::from_secs(10)).unwrap_err().to_string();
        assert!(error.contains("no such model") && error.contains('3'), "{error}");
    }

    #[test]
    fn cpu_time_grows_while_a_process_computes_and_stands_still_while_it_waits() {
        let (mut busy, _folder) = shell("while :; do :; done");
        let (mut idle, _folder) = shell("sleep 60");
        let some = Duration::from_millis(50);
        let spent = crate::wait::until(Duration::from_secs(30), || {
            busy.process.cpu_time().ok().filter(|spent| *spent >= some)
        });
        assert!(spent.is_some(), "the loop runs");
        assert!(idle.process.cpu_time().unwrap() < some);
        busy.kill();
        idle.kill();
    }

    #[test]
    fn stopping_gives_the_exit_code_that_the_service_chose() {
        let (mut service, _folder) = shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done");
        service.wait_for_line("ready", Duration::from_secs(10)).unwrap();
        assert_eq!(service.stop(Duration::from_secs(10)), Some(7));
    }
}
