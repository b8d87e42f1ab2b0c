//! `twinlane dead-letters redrive`: sends events that died once more, each in one transaction with the record that says
//! so. The order of steps is what makes "once" true:
//!
//! ```text
//!  start the sender ─► read <pipeline>.redriven ─► read dead letters ─► decide ─► transaction ─┐
//!  (fences a former     to its stable end:          up to the end       (guard)   event + entry│
//!  run, resolves what   all that any run sent       of the beginning       ▲                   │
//!  it had open)                                                            └───────────────────┘
//! ```
//!
//! A run that is fenced can commit nothing any more, so what the second run read stays true until the second run itself
//! adds to it. Brokers that go away for longer than a transaction may last fence a run, too; then it begins anew, from the
//! first of these steps.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::Utc;
use twinlane_kafka::{Error, Outgoing, Sender, SenderOptions, Sent, Span};
use twinlane_record::Reason;
use twinlane_service::Failure;

use super::{
    CLIENT, Desk,
    arguments::Redrive,
    filter::Filter,
    guard::{self, Guard, Left},
    letter::Letter,
    redriven::{self, By, Redriven},
    tally::{Tally, counted},
};

/// With the records, it bounds how long a transaction takes and what is in memory.
const TRANSACTION_BYTES: usize = 4 << 20;
/// Brokers that go away cost one each; a run that cannot send at all must end.
const RESTARTS: u32 = 20;
const PROGRESS: Duration = Duration::from_secs(2);
/// Ended by Ctrl-C, with some left: nobody may take that for all.
const INTERRUPTED: u8 = 130;

pub(crate) fn redrive(arguments: &Redrive) -> Result<ExitCode, Failure> {
    let desk = Desk::open(&arguments.pipeline, &arguments.cluster)?;
    let facts = desk.topics.describe(&guard::topics(desk.plan(), arguments.to))?;
    let limit_deaths = arguments.limit_deaths.get();
    let guard = Guard { plan: desk.plan(), facts: &facts, to: arguments.to, limit_deaths };
    let span = desk.span()?;
    let stop = Stop::on_interrupt()?;
    let run = |redriven, sender| Run {
        desk: &desk,
        guard,
        filter: arguments.selection.filter(),
        limit: arguments.selection.limit.map_or(u64::MAX, std::num::NonZero::get),
        per_transaction: arguments.per_transaction.get(),
        redriven,
        sender,
        stop: &stop,
        batch: Batch::default(),
        tally: Tally::default(),
        id: format!("{}-{}", std::process::id(), Utc::now().timestamp_micros()),
        restarts: RESTARTS,
        told: Instant::now(),
    };
    if arguments.dry_run || !arguments.yes {
        let mut preview = run(desk.redriven()?, None);
        preview.all(&span)?;
        println!("{} would be redriven{}", counted(preview.tally.total()), preview.tally);
        if arguments.dry_run || preview.tally.total() == 0 || stop.asked() {
            return Ok(stop.code());
        }
        if !confirmed()? {
            println!("nothing was sent");
            return Ok(ExitCode::SUCCESS);
        }
    }
    redriven::create(&desk.topics, &desk.redriven_topic)?;
    let mut run = run(Redriven::new(&desk.plan().dead_letters.name), None);
    run.begin()?;
    let ended = run.all(&span);
    let stopped = if stop.asked() { "; stopped, run it again for the rest" } else { "" };
    println!("{} redriven{stopped}{}", counted(run.tally.total()), run.tally);
    ended.map(|()| stop.code())
}

impl Guard<'_> {
    fn sender(&self, desk: &Desk) -> Result<Sender, Failure> {
        let prefix = &desk.located.settings.transactional_prefix;
        let least = self.facts.values().map(|facts| facts.max_message_bytes).min();
        let options = SenderOptions {
            client_id: CLIENT,
            // Another than any stage's, which ends with the replica's number.
            transactional_id: &format!("{prefix}{}.redrive", desk.plan().pipeline),
            max_batch_bytes: least.unwrap_or(usize::MAX),
            notice: |what| eprintln!("twinlane: {what}"),
        };
        Ok(Sender::start(&desk.connection, options)?)
    }
}

fn confirmed() -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Invalid(
            "there is nobody to ask whether to send them; say --yes, or --dry-run to only look".into(),
        ));
    }
    print!("send them? [y/N] ");
    let mut answer = String::new();
    let read = io::stdout().flush().and_then(|()| io::stdin().lock().read_line(&mut answer));
    read.map_err(|error| Failure::Other(error.into()))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// One look through the dead letters, with a sender or without.
struct Run<'r> {
    desk: &'r Desk,
    guard: Guard<'r>,
    filter: Filter,
    limit: u64,
    per_transaction: usize,
    redriven: Redriven,
    /// None: only counts.
    sender: Option<Sender>,
    stop: &'r Stop,
    batch: Batch,
    tally: Tally,
    /// Names this run among all.
    id: String,
    /// How often the sender may still be started anew.
    restarts: u32,
    told: Instant,
}

/// What the next transaction holds.
#[derive(Default)]
struct Batch {
    redriven: Vec<Again>,
    bytes: usize,
}

/// An event that is sent once more, and the record that says so.
struct Again {
    event: Outgoing,
    entry: Outgoing,
    reason: Reason,
}

impl Run<'_> {
    fn all(&mut self, span: &Span) -> Result<(), Failure> {
        let mut reader = span.read(&self.desk.connection, CLIENT)?;
        let size = span.offsets().max(1);
        while self.tally.total() + (self.batch.redriven.len() as u64) < self.limit
            && let Some(record) = reader.next_record()?
        {
            self.progress(reader.passed() * 100 / size);
            match Letter::read(self.desk.plan(), &record) {
                None => self.tally.strangers += 1,
                Some(letter) if self.filter.takes(&letter) => self.take(&letter),
                Some(_) => {}
            }
            if self.batch.redriven.len() >= self.per_transaction || self.batch.bytes >= TRANSACTION_BYTES {
                self.send()?;
            }
            if self.stop.asked() {
                return Ok(());
            }
        }
        self.send()
    }

    fn take(&mut self, letter: &Letter<'_>) {
        match self.guard.decide(letter, &self.redriven) {
            Err(why) => self.tally.leave(why),
            Ok(event) => {
                let now_ms = Utc::now().timestamp_millis();
                let entry = self.redriven.enter(&self.desk.redriven_topic, letter, &event, now_ms);
                self.batch.bytes += event.wire_size() + entry.wire_size();
                self.batch.redriven.push(Again { event, entry, reason: letter.dead.reason });
            }
        }
    }

    fn send(&mut self) -> Result<(), Failure> {
        let mut redriven = std::mem::take(&mut self.batch).redriven;
        while let Some(sender) = &self.sender
            && !redriven.is_empty()
        {
            let records: Vec<_> = redriven.iter().flat_map(|again| [&again.event, &again.entry]).collect();
            let why = match sender.send(&records) {
                Ok(Sent::Committed) => break,
                Ok(Sent::Unclear(why)) => Failure::Other(why.into()),
                Err(fenced @ Error::Superseded(_)) if self.is_latest()? => fenced.into(),
                Err(error) => return Err(error.into()),
            };
            if self.restarts == 0 {
                return Err(why);
            }
            self.restarts -= 1;
            eprintln!("twinlane: a transaction ended unclearly ({why}); beginning anew");
            self.begin()?;
            redriven = self.not_sent(redriven);
        }
        redriven.iter().for_each(|again| self.tally.take(again.reason));
        Ok(())
    }

    /// Fences and resolves what a former sender had under way; then the topic says what was sent, by whomever.
    fn begin(&mut self) -> Result<(), Failure> {
        self.sender = None;
        let sender = self.guard.sender(self.desk)?;
        match sender.send(&[&redriven::begun(&self.desk.redriven_topic, &self.id)])? {
            Sent::Committed => {}
            Sent::Unclear(why) => return Err(Failure::Other(why.into())),
        }
        self.redriven = self.desk.redriven()?;
        self.sender = Some(sender);
        Ok(())
    }

    fn is_latest(&self) -> Result<bool, Failure> {
        Ok(self.desk.redriven()?.is_latest(&self.id))
    }

    /// What of these still has to be sent; the others are counted.
    fn not_sent(&mut self, redriven: Vec<Again>) -> Vec<Again> {
        let mut left = Vec::new();
        for again in redriven {
            match self.redriven.sent_by(&again.entry) {
                Some(By::Us) => self.tally.take(again.reason),
                Some(By::Others) => self.tally.leave(Left::AlreadyRedriven),
                None => {
                    self.redriven.put(again.entry.key.as_deref(), again.entry.value.as_deref());
                    left.push(again);
                }
            }
        }
        left
    }

    fn progress(&mut self, percent: u64) {
        if self.told.elapsed() >= PROGRESS {
            self.told = Instant::now();
            let done = if self.sender.is_some() { "redriven" } else { "to be redriven" };
            eprintln!("{} {done}, {percent} % of the topic read", counted(self.tally.total()));
        }
    }
}

/// Whether somebody wants this to end: the first Ctrl-C or SIGTERM asks, the second does not wait.
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn on_interrupt() -> Result<Self, Failure> {
        let asked = Arc::new(AtomicBool::new(false));
        let handler = asked.clone();
        ctrlc::set_handler(move || {
            if handler.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(INTERRUPTED));
            }
            eprintln!("twinlane: ending after the transaction that is under way; again ends at once");
        })
        .map_err(|error| Failure::Other(error.into()))?;
        Ok(Self(asked))
    }

    fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn code(&self) -> ExitCode {
        if self.asked() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS }
    }
}
