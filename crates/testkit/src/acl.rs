//! What a principal may do on a broker, in the words of `kafka-acls`, so that a test can give what the documentation says.
//! The request is `CreateAcls` version 1, spoken here: the command lies in a jar that brokers do not need.

use crate::{Broker, Error, Result, probe};

/// One rule that allows something from everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// `User:name`.
    pub principal: String,
    /// `--topic`, `--group`, `--transactional-id` or `--cluster`, without the dashes.
    pub resource: String,
    /// The resource's name, or how it begins.
    pub name: String,
    /// Whether all resources are meant whose names begin so.
    pub prefixed: bool,
    /// `Read`, `Write` and the like.
    pub operation: String,
}

impl Acl {
    /// The rules that a `kafka-acls … --add …` line adds.
    ///
    /// # Panics
    /// At a word that this does not know: a rule that is passed over would be missed by nobody.
    pub fn of_command(line: &str) -> Vec<Self> {
        let mut words = line.split_whitespace().skip(1);
        let (mut principal, mut operations, mut resources, mut prefixed) = ("", vec![], vec![], false);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("nothing follows {word} in {line}"));
            match word {
                "--add" => {}
                "--bootstrap-server" | "--command-config" => {
                    value();
                }
                "--allow-principal" => principal = value(),
                "--operation" => operations.push(value()),
                "--topic" | "--group" | "--transactional-id" => resources.push((&word[2..], value())),
                "--cluster" => resources.push(("cluster", "kafka-cluster")),
                "--resource-pattern-type" => prefixed = value() == "prefixed",
                _ => panic!("{word} in {line}"),
            }
        }
        let each = |(resource, name): (&str, &str)| {
            operations
                .iter()
                .map(move |operation| (resource.to_owned(), name.to_owned(), (*operation).to_owned()))
                .collect::<Vec<_>>()
        };
        let rules = resources.into_iter().flat_map(each);
        let principal = principal.to_owned();
        rules
            .map(|(resource, name, operation)| Self {
                principal: principal.clone(),
                resource,
                name,
                prefixed,
                operation,
            })
            .collect()
    }

    fn encode(&self, into: &mut Vec<u8>) {
        into.push(match self.resource.as_str() {
            "topic" => 2,
            "group" => 3,
            "cluster" => 4,
            "transactional-id" => 5,
            other => panic!("{other} is no resource"),
        });
        into.extend(probe::text(&self.name));
        into.push(if self.prefixed { 4 } else { 3 });
        into.extend(probe::text(&self.principal));
        into.extend(probe::text("*"));
        let operations =
            ["Read", "Write", "Create", "Delete", "Alter", "Describe", "ClusterAction", "DescribeConfigs"];
        let operation = operations.iter().position(|known| *known == self.operation);
        into.push(3 + operation.unwrap_or_else(|| panic!("{} is no operation", self.operation)) as u8);
        into.push(3); // allow
    }
}

impl Broker {
    /// Adds these rules. Clients of [`Broker::bootstrap`] must be super users.
    ///
    /// # Errors
    /// When the broker does not answer, or refuses one.
    pub fn allow(&self, acls: &[Acl]) -> Result<()> {
        let mut body = (acls.len() as i32).to_be_bytes().to_vec();
        acls.iter().for_each(|acl| acl.encode(&mut body));
        let answer = probe::ask(self.address(0), CREATE_ACLS, &body).map_err(Error::io("adding ACLs"))?;
        // Throttle time and count, then a code and a message for each: 0, and none or an empty one.
        let codes = answer.get(8..).unwrap_or_default().chunks(4);
        let accepted = codes.filter(|one| one.starts_with(&[0, 0])).count();
        match accepted == acls.len() {
            true => Ok(()),
            false => {
                Err(Error::io("adding ACLs")(std::io::Error::other(format!("the broker said {answer:?}"))))
            }
        }
    }
}

const CREATE_ACLS: i16 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_the_rules_that_it_adds() {
        let line = "kafka-acls --bootstrap-server b:1 --add --allow-principal User:w --operation Read --operation Write \
                    --topic shop. --resource-pattern-type prefixed";
        let rule = |operation: &str| Acl {
            principal: "User:w".into(),
            resource: "topic".into(),
            name: "shop.".into(),
            prefixed: true,
            operation: operation.into(),
        };
        assert_eq!(Acl::of_command(line), [rule("Read"), rule("Write")]);
    }
}
