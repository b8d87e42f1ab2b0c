//! Checks of tasks: inputs, outputs, where answers go.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use serde_saphyr::{Location, Spanned};

use crate::{
    Error,
    check::Checker,
    instant::zone_seconds,
    plan::{
        Apply, Column, Conversion, Input, ModelFile, Models, OutputKind, OutputSpec, Publish, Task,
        TaskPlaces, Vocabulary,
    },
    raw::{self, Convert},
};

/// Steps of a sequence at most.
const MAX_STEPS: usize = 4096;
/// Numbers that a task takes from one event at most: two mebibytes, of which many events are in flight.
const MAX_NUMBERS: usize = 1 << 18;

pub(crate) fn task(checker: &Checker<'_>, name: &str, raw: Spanned<raw::Task>) -> Result<Task, Error> {
    let (place, raw) = (raw.defined, raw.value);
    let model = |written: Option<_>| written.map(|written| model_file(checker, written)).transpose();
    let models = Models { full: model(raw.models.full)?, distilled: model(raw.models.distilled)? };
    if models == Models::default() {
        return checker
            .refuse(place, format!("task `{name}` has no model; add `models.full` or `models.distilled`"));
    }
    if raw.inputs.is_empty() || raw.outputs.is_empty() {
        return checker.refuse(place, format!("task `{name}` needs at least one input and one output"));
    }
    let mut filled = BTreeMap::new();
    let mut inputs = Vec::new();
    let mut numbers = 0;
    for (tensor, written) in raw.inputs {
        let place = written.defined;
        let beside = [&written.value.mask, &written.value.type_ids].map(|beside| {
            let beside = beside.as_ref()?;
            Some((beside.value.clone(), beside.defined))
        });
        inputs.push(input(checker, &tensor, written.value, place)?);
        numbers += inputs.last().map_or(0, numbers_of);
        if numbers > MAX_NUMBERS {
            return checker.refuse(place, format!("with tensor `{tensor}`, task `{name}` takes up to {numbers} numbers from an event; at most {MAX_NUMBERS}, lower `keep_last` or `max_tokens`, or list fewer columns"));
        }
        for (tensor, place) in [Some((tensor, place))].into_iter().chain(beside).flatten() {
            if filled.insert(Arc::from(tensor.as_str()), checker.place(place)).is_some() {
                return checker.refuse(place, format!("tensor `{tensor}` is filled twice"));
            }
        }
    }
    let mut read = BTreeMap::new();
    let mut outputs = Vec::new();
    for (output_name, written) in raw.outputs {
        let tensor = &written.value.tensor;
        read.entry(Arc::from(tensor.value.as_str())).or_insert_with(|| checker.place(tensor.defined));
        outputs.push(output(checker, &output_name, &written)?);
    }
    let (at, publish) = (raw.publish.defined, raw.publish.value);
    if let Some(twice) = first_twice(&publish.carry) {
        return checker.refuse(twice.defined, format!("`carry` names `{}` twice", twice.value));
    }
    Ok(Task {
        name: checker.name(name, "task", place)?,
        models,
        inputs,
        outputs,
        deadline: raw.deadline.as_ref().map(|text| checker.deadline(text)).transpose()?,
        publish: Publish {
            topic: checker.topic(&publish.topic, publish.partitions, at)?,
            format: publish.format,
            carry: publish.carry.iter().map(|field| field.value.as_str().into()).collect(),
        },
        places: TaskPlaces {
            inputs: filled,
            outputs: read,
            publish: checker.place(at),
            carry: publish.carry.iter().map(|field| checker.place(field.defined)).collect(),
        },
    })
}

/// How many numbers an input takes from one event at most.
fn numbers_of(input: &Input) -> usize {
    match input {
        Input::Scalar { .. } => 1,
        Input::Matrix { columns, .. } => columns.len(),
        Input::Sequence { keep_last, columns, .. } => keep_last * columns.len(),
        Input::Text { max_tokens, .. } => *max_tokens,
    }
}

fn input(checker: &Checker<'_>, tensor: &str, raw: raw::Input, place: Location) -> Result<Input, Error> {
    if raw.text.is_some() {
        return text(checker, tensor, raw, place);
    }
    if raw.tokenizer.is_some() || raw.max_tokens.is_some() || raw.type_ids.is_some() {
        return checker.refuse(place, format!("tensor `{tensor}`: `tokenizer`, `max_tokens` and `type_ids` belong to `text`, the field that holds the text"));
    }
    let tensor: Arc<str> = tensor.into();
    match (raw.field, raw.columns, raw.each) {
        (Some(field), None, None) => {
            if raw.keep_last.is_some() || raw.mask.is_some() {
                return checker.refuse(place, format!("tensor `{tensor}`: `keep_last` and `mask` belong to `each`"));
            }
            let spec = raw::ColumnSpec {
                field,
                convert: raw.convert,
                zone: raw.zone,
                vocabulary: raw.vocabulary,
                unknown: raw.unknown,
                missing: raw.missing,
            };
            Ok(Input::Scalar { column: column(checker, spec, place)?, tensor })
        }
        (None, Some(columns), each) => {
            let stray = raw.convert.is_some() || raw.zone.is_some() || raw.vocabulary.is_some();
            if stray || raw.unknown.is_some() || raw.missing.is_some() {
                return checker.refuse(place, format!("tensor `{tensor}`: `as`, `zone`, `vocabulary`, `unknown` and `missing` belong to a column: {{ field: …, as: … }}"));
            }
            if columns.is_empty() {
                return checker.refuse(place, format!("tensor `{tensor}` lists no columns"));
            }
            let columns = columns
                .into_iter()
                .map(|written| match written.value {
                    raw::Column::Name(field) => Ok(Column {
                        field: field.into(),
                        conversion: Conversion::Number,
                        missing: None,
                        place: checker.place(written.defined),
                    }),
                    raw::Column::Spec(spec) => column(checker, spec, written.defined),
                })
                .collect::<Result<Vec<_>, _>>()?;
            let Some(each) = each else {
                if raw.keep_last.is_some() || raw.mask.is_some() {
                    return checker.refuse(place, format!("tensor `{tensor}`: `keep_last` and `mask` need `each`, the field that holds the list"));
                }
                return Ok(Input::Matrix { tensor, columns });
            };
            let keep_last = match raw.keep_last {
                Some(steps @ 1..=MAX_STEPS) => steps,
                Some(other) => return checker.refuse(place, format!("tensor `{tensor}`: `keep_last` is {other}; it must be 1 to {MAX_STEPS}")),
                None => return checker.refuse(place, format!("tensor `{tensor}`: `each` needs `keep_last`, so that a long list cannot exhaust memory")),
            };
            Ok(Input::Sequence { tensor, each: each.into(), keep_last, mask: raw.mask.map(|mask| mask.value.into()), columns })
        }
        _ => checker.refuse(place, format!("tensor `{tensor}` needs `field` for one value, `columns` for a matrix, `each` with `columns` for a sequence, or `text` for a text")),
    }
}

fn text(checker: &Checker<'_>, tensor: &str, raw: raw::Input, place: Location) -> Result<Input, Error> {
    let stray = raw.field.is_some()
        || raw.columns.is_some()
        || raw.each.is_some()
        || raw.keep_last.is_some()
        || raw.convert.is_some()
        || raw.zone.is_some()
        || raw.vocabulary.is_some()
        || raw.unknown.is_some()
        || raw.missing.is_some();
    if stray {
        return checker.refuse(place, format!("tensor `{tensor}`: `text` goes with `tokenizer`, `max_tokens`, `mask` and `type_ids`, and with nothing else"));
    }
    let (Some(field), Some(tokenizer), Some(mask)) = (raw.text, raw.tokenizer, raw.mask) else {
        return checker.refuse(place, format!("tensor `{tensor}`: `text` needs `tokenizer`, the model's tokenizer.json, and `mask`, the tensor that tells tokens from padding"));
    };
    let max_tokens = match raw.max_tokens {
        Some(tokens @ 1..=MAX_STEPS) => tokens,
        Some(other) => {
            return checker.refuse(
                place,
                format!("tensor `{tensor}`: `max_tokens` is {other}; it must be 1 to {MAX_STEPS}"),
            );
        }
        None => {
            return checker.refuse(
                place,
                format!(
                    "tensor `{tensor}`: `text` needs `max_tokens`, at most what the model was trained on"
                ),
            );
        }
    };
    Ok(Input::Text {
        tensor: tensor.into(),
        field: field.into(),
        tokenizer: tokenizer.into(),
        max_tokens,
        mask: mask.value.into(),
        type_ids: raw.type_ids.map(|tensor| tensor.value.into()),
        place: checker.place(place),
    })
}

fn column(checker: &Checker<'_>, raw: raw::ColumnSpec, place: Location) -> Result<Column, Error> {
    let field = raw.field;
    let conversion = match (raw.vocabulary, raw.convert) {
        (Some(_), Some(_)) => {
            return checker
                .refuse(place, format!("field `{field}`: `vocabulary` and `as` exclude each other"));
        }
        (Some(_), None) if raw.zone.is_some() => {
            return checker
                .refuse(place, format!("field `{field}`: `zone` belongs to hour_of_day and day_of_week"));
        }
        (Some(_), None) if raw.unknown.is_some_and(|index| index < 0) => {
            return checker.refuse(place, format!("field `{field}`: `unknown` is an index, counted from 0"));
        }
        (Some(_), None) if raw.missing.is_some_and(|index| index < 0.0 || index.fract() != 0.0) => {
            return checker.refuse(
                place,
                format!("field `{field}`: `missing` is an index of the vocabulary, counted from 0"),
            );
        }
        (Some(file), None) => Conversion::Category(Vocabulary { file: file.into(), unknown: raw.unknown }),
        (None, _) if raw.unknown.is_some() => {
            return checker.refuse(place, format!("field `{field}`: `unknown` needs a `vocabulary`"));
        }
        (None, convert) => {
            let zone =
                match (&raw.zone, convert) {
                    (None, _) => 0,
                    (Some(zone), Some(Convert::HourOfDay | Convert::DayOfWeek)) => match zone_seconds(zone) {
                        Some(seconds) => seconds,
                        None => return checker.refuse(
                            place,
                            format!(
                                "field `{field}`: `{zone}` is no zone; write UTC or an offset such as +02:00"
                            ),
                        ),
                    },
                    _ => {
                        return checker.refuse(
                            place,
                            format!("field `{field}`: `zone` belongs to hour_of_day and day_of_week"),
                        );
                    }
                };
            match convert.unwrap_or(Convert::Number) {
                Convert::Number => Conversion::Number,
                Convert::Boolean => Conversion::Boolean,
                Convert::EpochSeconds => Conversion::EpochSeconds,
                Convert::EpochMillis => Conversion::EpochMillis,
                Convert::HourOfDay => Conversion::HourOfDay(zone),
                Convert::DayOfWeek => Conversion::DayOfWeek(zone),
            }
        }
    };
    if raw.missing.is_some_and(|m| !m.is_finite()) {
        return checker.refuse(place, format!("field `{field}`: `missing` must be a finite number"));
    }
    if conversion == Conversion::Boolean && raw.missing.is_some_and(|m| m != 0.0 && m != 1.0) {
        return checker.refuse(place, format!("field `{field}`: a boolean's `missing` is 0 or 1"));
    }
    Ok(Column { field: field.into(), conversion, missing: raw.missing, place: checker.place(place) })
}

/// The first word that a list has twice.
fn model_file(checker: &Checker<'_>, raw: Spanned<raw::ModelFile>) -> Result<ModelFile, Error> {
    let (place, verified) = match raw.value {
        raw::ModelFile::Any(file) => return Ok(ModelFile { file: file.into(), sha256: None }),
        raw::ModelFile::Verified(verified) => (raw.defined, verified),
    };
    let digest = verified.sha256.to_ascii_lowercase();
    if digest.len() != 64 || !digest.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        let (length, file) = (digest.len(), &verified.file);
        return checker.refuse(place, format!("the `sha256` of {file} has {length} characters, and is 64 hex digits, as `sha256sum {file}` prints them"));
    }
    Ok(ModelFile { file: verified.file.into(), sha256: Some(digest.into()) })
}

fn first_twice(words: &[Spanned<String>]) -> Option<&Spanned<String>> {
    let mut seen = HashSet::new();
    words.iter().find(|word| !seen.insert(&word.value))
}

fn output(checker: &Checker<'_>, name: &str, raw: &Spanned<raw::Output>) -> Result<OutputSpec, Error> {
    let (place, raw) = (raw.defined, &raw.value);
    if let Some(twice) = first_twice(&raw.labels) {
        return checker
            .refuse(twice.defined, format!("output `{name}` has the label `{}` twice", twice.value));
    }
    let kind = match raw.kind {
        raw::OutputKind::Class if raw.labels.len() < 2 => {
            return checker
                .refuse(place, format!("output `{name}` is a class and needs at least two `labels`"));
        }
        raw::OutputKind::Class => OutputKind::Class {
            labels: raw.labels.iter().map(|label| label.value.as_str().into()).collect(),
            apply: raw.apply.map(|apply| match apply {
                raw::Apply::Softmax => Apply::Softmax,
                raw::Apply::Sigmoid => Apply::Sigmoid,
            }),
        },
        _ if !raw.labels.is_empty() || raw.apply.is_some() => {
            return checker
                .refuse(place, format!("output `{name}`: `labels` and `apply` belong to kind `class`"));
        }
        raw::OutputKind::Number => OutputKind::Number,
        raw::OutputKind::Vector => OutputKind::Vector,
    };
    Ok(OutputSpec { name: name.into(), tensor: raw.tensor.value.as_str().into(), kind })
}
