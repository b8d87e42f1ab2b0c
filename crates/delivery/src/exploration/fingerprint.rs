//! What makes two states of the model the same. Epochs, generations and arrival numbers only grow, so a state says of
//! each only whether it is the current one: otherwise no state would ever come again.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{
    worker::{Worker, number},
    world::World,
};
use crate::Ended;

impl World {
    pub(super) fn fingerprint(&self) -> u128 {
        let half = |salt: u64| {
            let mut hasher = DefaultHasher::new();
            salt.hash(&mut hasher);
            self.hash_into(&mut hasher);
            u128::from(hasher.finish())
        };
        half(1) << 64 | half(2)
    }

    fn hash_into(&self, to: &mut impl Hasher) {
        let broker = &self.broker;
        (&broker.committed, &broker.open, broker.member, &broker.target, &broker.owner).hash(to);
        self.faults.hash(to);
        for (id, worker) in self.workers.iter().enumerate() {
            worker.is_some().hash(to);
            let Some(worker) = worker else { continue };
            (worker.producer_epoch == broker.producer_epoch[id]).hash(to);
            worker.generation.map(|generation| generation == broker.generation).hash(to);
            worker.is_another().hash(to);
            hash_worker(worker, to);
        }
    }
}

fn hash_worker(worker: &Worker, to: &mut impl Hasher) {
    (&worker.position, &worker.rewinds, worker.cancelled, &worker.callback, worker.revoking).hash(to);
    let mut tickets: Vec<_> = worker.tickets.iter().map(|(_, record)| record).collect();
    tickets.sort_unstable();
    tickets.hash(to);
    if let Some(out) = &worker.out {
        (out.request, out.checked).hash(to);
        worker.delivery.hash_window(&out.window, to);
    }
    match &worker.ended {
        None => 0.hash(to),
        Some(Ended::Lost) => 1.hash(to),
        Some(Ended::Committed(window)) => (2.hash(to), worker.delivery.hash_window(window, to)).1,
        Some(Ended::Aborted(window)) => (3.hash(to), worker.delivery.hash_window(window, to)).1,
    }
    worker.delivery.hash_state(to);
}

mod of_delivery {
    use super::*;
    use crate::{Delivery, Window, exploration::broker::Record};

    impl Delivery<Record> {
        pub(super) fn hash_window(&self, window: &Window<Record>, to: &mut impl Hasher) {
            for run in &window.runs {
                let current = self.assignment().any(|(tp, epoch)| *tp == run.partition && epoch == run.epoch);
                (current, number(&run.partition), &run.records).hash(to);
            }
            usize::MAX.hash(to);
        }
    }
}
