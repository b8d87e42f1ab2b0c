//! The `twinlane` command: check a pipeline, make its topics, register its schemas, run it for development, follow what comes
//! out, find what became of one event, and send again what died.

mod arguments;
mod check;
mod dead_letters;
mod explain;
mod locate;
mod run;
mod schemas;
mod tail;
mod text;
mod topics;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use twinlane_service::Failure;

use crate::arguments::{Arguments, Command, SchemasCommand, TopicsCommand};

fn main() -> ExitCode {
    twinlane_inference::without_telemetry();
    let ended = match Arguments::parse().command {
        Command::Check(arguments) => check::check(&arguments),
        Command::Schema => printed(|out| writeln!(out, "{}", twinlane_pipeline::json_schema())),
        Command::Topics(arguments) => match arguments.command {
            TopicsCommand::Create(arguments) => topics::create(&arguments),
        },
        Command::Schemas(arguments) => match arguments.command {
            SchemasCommand::Register(arguments) => schemas::register(&arguments),
        },
        Command::Run(arguments) => run::run(&arguments),
        Command::Tail(arguments) => tail::tail(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::DeadLetters(arguments) => dead_letters::dead_letters(&arguments),
    };
    ended.unwrap_or_else(|failure| {
        eprintln!("twinlane: {failure}");
        failure.code()
    })
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no failure.
fn printed(write: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Other(error.into())),
        _ => Ok(ExitCode::SUCCESS),
    }
}
