//! `docs/settings.md`, written from [`Settings`], the flags of a service, and the properties of the Kafka client.

use std::fmt::Write as _;

use clap::Arg;
use serde_json::Value;

use crate::{
    Settings, process,
    schema_tables::{cell, default_of, holds, keys, sections, told},
};

const HEAD: &str = "# Settings of a service

Written by `cargo xtask docs` from `crates/service/src/settings.rs`; a test fails when this page differs.

What a service needs to know besides its [pipeline file](pipeline-file.md). Each setting may stand in a settings file (TOML,
`--settings FILE`), in the environment, and some as a flag; flags win over the environment, the environment over the file,
the file over the default. What is unknown is refused with exit code 2. Only `pipeline` has no default that works.

In the settings file a section is a table, and properties of librdkafka keep their dots in quotes:

```toml
pipeline = \"pipelines/commerce/pipeline.yaml\"
admin_port = 9464
[kafka]
brokers = \"kafka-1:9092,kafka-2:9092\"
[kafka.consumer]
\"session.timeout.ms\" = \"10000\"
[kafka.secrets]
\"sasl.password\" = \"/etc/twinlane/secrets/password\"
```

In the environment the dots of a property may be underscores, which no property has:
`TWINLANE_KAFKA__CONSUMER__SESSION_TIMEOUT_MS`. Passwords and the like come from files or the environment, never from a flag;
`--dump-config` prints all settings that apply without them. How to sign in to brokers: [a secured cluster](secured-cluster.md).
";

const ELSEWHERE: &str = "
## Variables of others

| Variable | Meaning |
|---|---|
| `RUST_LOG` | Which log lines are written, as of `tracing_subscriber`: `info,ort=warn` by default; `debug`, `twinlane_kafka=debug` |
| `NO_COLOR` | Log lines are plain on a terminal, too; elsewhere they always are |
| `ORT_DYLIB_PATH` | ONNX Runtime's shared library, where the setting `onnxruntime` is absent |
| `HOSTNAME` | The number at its end is the ordinal (`precision-worker-3`), where the setting `ordinal` is absent |
";

const PROPERTIES: &str = "
## Properties of librdkafka

Everything that [librdkafka knows](https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md) may be set in
`kafka.common`, `kafka.consumer` and `kafka.producer`. In these Twinlane's defaults differ from librdkafka's, or it says what
exactly once rests on: that is fixed, and setting it changes nothing, as with `group.id`, `group.instance.id`,
`transactional.id` and `enable.idempotence`.
";

/// The page.
pub(crate) fn settings_page() -> String {
    let root = schemars::schema_for!(Settings).to_value();
    let flags = process::command();
    let flags: Vec<_> = flags.get_arguments().filter(|flag| flag.get_long().is_some()).collect();
    let settings = all(&root);
    let mut page = HEAD.to_owned();
    for (section, names) in settings.iter().fold(Vec::<(&str, Vec<&Setting>)>::new(), by_section) {
        match section {
            "" => page.push_str("\n## Without a section\n"),
            section => {
                let _ = write!(page, "\n## `[{section}]`\n");
            }
        }
        page.push_str(
            "\n| Setting | Holds | Default | Environment | Flag | Meaning |\n|---|---|---|---|---|---|\n",
        );
        for setting in names {
            let flag = flags.iter().find(|flag| names_it(flag, setting, &settings));
            let flag = flag.map_or("–".to_owned(), |flag| format!("`{}`", typed(flag)));
            let Setting { path, holds, default, environment, told, .. } = setting;
            let _ = writeln!(page, "| `{path}` | {holds} | {default} | `{environment}` | {flag} | {told} |");
        }
    }
    page.push_str("\n## Flags alone\n\n| Flag | Meaning |\n|---|---|\n");
    for flag in flags.iter().filter(|flag| !settings.iter().any(|setting| names_it(flag, setting, &settings)))
    {
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(page, "| `{}` | {} |", typed(flag), cell(&help));
    }
    page + ELSEWHERE + PROPERTIES + &properties()
}

struct Setting {
    section: String,
    /// Sections and name, with dots between.
    path: String,
    holds: String,
    default: String,
    environment: String,
    told: String,
}

/// Every setting: those of the root, then those of each section.
fn all(root: &Value) -> Vec<Setting> {
    let mut settings = Vec::new();
    let sections = sections(root);
    for section in &sections {
        let place = section.places.first().map_or("", String::as_str);
        for key in keys(section.schema) {
            let path = if place.is_empty() { key.name.to_owned() } else { format!("{place}.{}", key.name) };
            if sections.iter().any(|of| of.places.contains(&path) && !keys(of.schema).is_empty()) {
                continue;
            }
            let mut environment = format!("TWINLANE_{}", path.replace('.', "__").to_uppercase());
            if key.schema.get("additionalProperties").is_some() {
                environment.push_str("__<NAME>");
            }
            settings.push(Setting {
                section: place.to_owned(),
                holds: words(root, key.schema),
                default: default_of(&key),
                told: told(key.schema),
                environment,
                path,
            });
        }
    }
    settings
}

/// A choice is told by its words, since this page has no sections for types.
fn words(root: &Value, schema: &Value) -> String {
    let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
    name.map_or_else(|| holds(root, schema), |name| holds(root, &root["$defs"][name]))
}

fn by_section<'a>(
    mut sections: Vec<(&'a str, Vec<&'a Setting>)>,
    setting: &'a Setting,
) -> Vec<(&'a str, Vec<&'a Setting>)> {
    match sections.iter_mut().find(|(section, _)| *section == setting.section) {
        Some((_, settings)) => settings.push(setting),
        None => sections.push((&setting.section, vec![setting])),
    }
    sections
}

/// A flag is called as its setting is, or as the last part of one that no other ends in.
fn names_it(flag: &Arg, setting: &Setting, settings: &[Setting]) -> bool {
    let id = flag.get_id().as_str();
    let ends_so = |setting: &Setting| setting.path.rsplit('.').next() == Some(id);
    match settings.iter().any(|setting| setting.path == id) {
        true => setting.path == id,
        false => ends_so(setting) && settings.iter().filter(|setting| ends_so(setting)).count() == 1,
    }
}

fn typed(flag: &Arg) -> String {
    let name = flag.get_long().unwrap_or_default();
    let value = flag.get_action().takes_values().then(|| flag.get_value_names()).flatten();
    value.unwrap_or_default().iter().fold(format!("--{name}"), |typed, value| format!("{typed} {value}"))
}

fn properties() -> String {
    let mut table = String::from("\n| For | Property | Value | May be set |\n|---|---|---|---|\n");
    for (of, may_be_set, properties) in twinlane_kafka::PROPERTIES {
        let may_be_set = if may_be_set { "yes" } else { "no" };
        for (name, value) in properties {
            let _ = writeln!(table, "| {of} | `{name}` | `{value}` | {may_be_set} |");
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;
    use crate::Flags;

    /// Every value with the path of its setting.
    fn leaves(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
        match value.as_object().filter(|object| !object.is_empty()) {
            None => found.push((path.trim_start_matches('.').to_owned(), value.to_string())),
            Some(object) => {
                object.iter().for_each(|(key, value)| leaves(value, &format!("{path}.{key}"), found))
            }
        }
    }

    fn loaded(arguments: &[&str]) -> Option<Vec<(String, String)>> {
        let command = Flags::augment_args(clap::Command::new("service"));
        let matches = command.try_get_matches_from([&["service"], arguments].concat()).ok()?;
        let settings = Settings::load(&Flags::from_arg_matches(&matches).ok()?).ok()?;
        let mut found = Vec::new();
        leaves(&serde_json::to_value(settings).ok()?, "", &mut found);
        Some(found)
    }

    #[test]
    fn a_flag_changes_the_setting_beside_which_the_page_shows_it() {
        let root = schemars::schema_for!(Settings).to_value();
        let settings = all(&root);
        let command = process::command();
        let mut tried = 0;
        for flag in command.get_arguments() {
            let Some(setting) = settings.iter().find(|setting| names_it(flag, setting, &settings)) else {
                continue;
            };
            let name = format!("--{}", flag.get_long().expect("a long flag"));
            let rest: &[&str] = if name == "--pipeline" { &[] } else { &["--pipeline", "p"] };
            // Some flags want a number, some a word, some nothing.
            let values: [&[&str]; 4] = [&["7"], &["json"], &["x"], &[]];
            let with = values.iter().find_map(|value| loaded(&[&[&*name], *value, rest].concat()));
            let with = with.unwrap_or_else(|| panic!("{name} takes none of the values"));
            let without = loaded(&["--pipeline", "p"]).expect("a pipeline is enough");
            let changed: Vec<_> =
                with.iter().filter(|now| !without.contains(now)).map(|(path, _)| path).collect();
            assert_eq!(changed, [&setting.path], "{name}");
            tried += 1;
        }
        assert!(tried >= 8, "only {tried} flags were tried");
    }
}
