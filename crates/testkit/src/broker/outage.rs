//! Taking brokers of ours away and bringing them back, and asking from outside who coordinates what.

use std::net::SocketAddr;
use std::time::Duration;

use super::Broker;
use crate::probe::{self, KeyKind};
use crate::{Error, Result, jars, wait};

/// Something that a broker coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinated<'a> {
    /// A consumer group.
    Group(&'a str),
    /// A transactional id.
    Transactions(&'a str),
}

impl Broker {
    /// How many brokers of ours there are, running or not.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Kills a broker of ours with SIGKILL.
    pub fn kill_node(&mut self, index: usize) {
        self.nodes[index].process = None;
    }

    /// Starts a broker of ours again, on its old port and its old files, and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart_node(&mut self, index: usize) -> Result<()> {
        self.restart_nodes(&[index])
    }

    /// Starts brokers of ours again, all at once, and waits until each answers: one alone waits for a quorum.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn restart_nodes(&mut self, indices: &[usize]) -> Result<()> {
        let jars = jars::fetch(|| {})?;
        for &index in indices {
            self.nodes[index].start(&jars)?;
        }
        indices.iter().try_for_each(|&index| self.nodes[index].wait_until_ready(1))
    }

    /// Starts those brokers of ours again that were killed and not started since.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn restart_missing(&mut self) -> Result<()> {
        let missing: Vec<_> =
            (0..self.nodes.len()).filter(|&index| self.nodes[index].process.is_none()).collect();
        self.restart_nodes(&missing)
    }

    /// The index of the broker that coordinates this now, by what the living brokers say; none while they do not know
    /// or name one that does not answer.
    pub fn coordinator(&self, of: Coordinated<'_>) -> Option<usize> {
        let (kind, key) = match of {
            Coordinated::Group(group) => (KeyKind::Group, group),
            Coordinated::Transactions(id) => (KeyKind::Transactions, id),
        };
        let living = || self.nodes.iter().filter(|node| node.process.is_some());
        let id = living().find_map(|node| probe::coordinator(node.address, kind, key).ok())?;
        let node = living().find(|node| node.id == id)?;
        probe::brokers(node.address).ok()?;
        Some(node.id - 1)
    }

    /// Waits until all of these have a coordinator that answers.
    ///
    /// # Errors
    /// When one still has none after `limit`.
    pub fn wait_for_coordinators(&self, of: &[Coordinated<'_>], limit: Duration) -> Result<()> {
        let all = wait::until(limit, || of.iter().all(|&of| self.coordinator(of).is_some()).then_some(()));
        all.ok_or_else(|| Error::Timeout {
            what: format!("a coordinator for each of {of:?}"),
            within: limit,
            context: String::new(),
        })
    }

    /// Where clients reach the brokers through their proxies, which [`BrokerOptions::behind_proxies`] starts.
    ///
    /// [`BrokerOptions::behind_proxies`]: super::BrokerOptions::behind_proxies
    pub fn proxied_bootstrap(&self) -> String {
        let proxies = self.nodes.iter().filter_map(|node| node.proxy.as_deref());
        proxies.map(|proxy| proxy.address().to_string()).collect::<Vec<_>>().join(",")
    }

    /// The proxies, one before each broker, in their order.
    pub fn proxies(&self) -> Vec<std::sync::Arc<crate::proxy::Proxy>> {
        self.nodes.iter().filter_map(|node| node.proxy.clone()).collect()
    }

    /// The folder with a broker's logs.
    pub fn folder(&self, index: usize) -> &std::path::Path {
        self.nodes[index].folder()
    }

    /// Where a broker listens, for clients that are not meant to meet its proxy.
    pub fn address(&self, index: usize) -> SocketAddr {
        self.nodes[index].address
    }
}
