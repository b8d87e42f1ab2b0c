//! A worker of the model: the real [`Delivery`], and around it what the stage, the consumer and the transaction thread
//! do with its orders.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    broker::{Partition, Record},
    world::Rules,
};
use crate::{Delivery, Ended, Options, Order, Request, Ticket, TopicPartition, Window};

/// The window that is out, and what is asked next for it.
#[derive(Clone, Debug)]
pub(super) struct Out {
    pub(super) window: Window<Record>,
    pub(super) request: Request,
    /// It was not cancelled when that was last looked at.
    pub(super) checked: bool,
}

/// A rebalance callback that has not returned.
#[derive(Clone, Debug, Hash)]
pub(super) struct Callback {
    pub(super) partitions: Vec<Partition>,
    pub(super) lost: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) delivery: Delivery<Record>,
    pub(super) producer_epoch: u32,
    /// As its group metadata says; `None`: of no member.
    pub(super) generation: Option<u32>,
    /// Which member of the group it is, counted; and as which it was given what it has.
    pub(super) member: u32,
    pub(super) holds_as: u32,
    /// Where it reads each partition that it has.
    pub(super) position: Vec<Option<i64>>,
    pub(super) tickets: Vec<(Ticket, Record)>,
    /// Rewinds that the consumer has not carried out.
    pub(super) rewinds: VecDeque<Vec<Partition>>,
    pub(super) out: Option<Out>,
    pub(super) cancelled: bool,
    /// How the window ended that was out, not yet heard of.
    pub(super) ended: Option<Ended<Record>>,
    pub(super) callback: Option<Callback>,
    /// The delivery has not let go yet.
    pub(super) revoking: bool,
}

/// All times are either now or long after: what depends on time happens in a step of its own.
const FLOOR: Duration = Duration::from_secs(3600);

pub(super) fn named(partition: Partition) -> TopicPartition {
    TopicPartition { topic: "t".into(), partition: partition as i32 }
}

pub(super) fn number(partition: &TopicPartition) -> Partition {
    partition.partition as usize
}

impl Worker {
    pub(super) fn new(partitions: usize, producer_epoch: u32, rules: Rules) -> Self {
        let options = Options { window_floor: FLOOR, window_bytes: usize::MAX, dead_letter_limit: None };
        let mut delivery = Delivery::new(options);
        delivery.keeps_stale_windows = !rules.epochs;
        Self {
            delivery,
            producer_epoch,
            generation: None,
            member: 0,
            holds_as: 0,
            position: vec![None; partitions],
            tickets: Vec::new(),
            rewinds: VecDeque::new(),
            out: None,
            cancelled: false,
            ended: None,
            callback: None,
            revoking: false,
        }
    }

    /// The partitions that it has, as far as it knows.
    pub(super) fn held(&self) -> Vec<Partition> {
        (0..self.position.len()).filter(|&partition| self.position[partition].is_some()).collect()
    }

    /// It is another member than the one that was given what it has.
    pub(super) fn is_another(&self) -> bool {
        self.member != self.holds_as && !self.held().is_empty()
    }

    /// Carries out what the delivery orders now, and with `later` also what it orders after a while.
    pub(super) fn obey(&mut self, start: Instant, later: bool) {
        let now = if later { start + 2 * FLOOR } else { start };
        while let Some(order) = self.delivery.next(now) {
            match order {
                Order::Commit(window) => {
                    assert!(self.out.is_none(), "two windows are out");
                    self.out = Some(Out { window, request: Request::FIRST, checked: false });
                }
                Order::Cancel => self.cancelled = true,
                Order::Rewind(partitions) => self.rewinds.push_back(partitions.iter().map(number).collect()),
                Order::LetGo => self.revoking = false,
                Order::Forget => self.tickets.retain(|(ticket, _)| self.delivery.is_current(*ticket)),
                Order::Hold(..) => unreachable!("there is no limit"),
            }
        }
        self.delivery.began_at(start);
    }
}
