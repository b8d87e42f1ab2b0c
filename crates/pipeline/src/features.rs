//! Fills a model's tensors from one event. Numbers stay 64 bits wide until they are packed into the model's
//! own type: seconds since the epoch have lost two minutes of precision by the time they are an `f32`.

use std::{collections::HashMap, io, path::Path, sync::Arc};

use twinlane_record::{Reason, Rejection, Value};

use crate::{
    Error, instant,
    plan::{Column, Conversion, Input, Task, Vocabulary},
    text::Tokens,
};

/// One tensor of a model, the batch dimension excluded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name.
    pub name: Arc<str>,
    /// What it holds.
    pub kind: Kind,
    /// `[]` for one value an event, `[Fixed(n)]` for a matrix, `[Steps, Fixed(n)]` for a sequence with a mask,
    /// `[Steps]` for its mask, `[Fixed(keep_last), Fixed(n)]` for a sequence without one.
    pub dims: Vec<Dim>,
}

/// What a tensor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Numbers.
    Real,
    /// Indices and masks.
    Integer,
    /// Booleans.
    Bool,
}

/// A dimension of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Always this many.
    Fixed(usize),
    /// As many as the batch's longest event has, at most `max`, at least 1.
    Steps {
        /// The most.
        max: usize,
    },
}

/// One event's tensors, in the order of [`FeatureEncoder::specs`].
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Tensors, masks included.
    pub tensors: Vec<RowTensor>,
}

/// One event's part of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct RowTensor {
    /// Steps that this event has; 0 for an empty list and for tensors without steps.
    pub steps: usize,
    /// Row-major.
    pub data: TensorData,
}

/// The numbers of one event in one tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// Numbers.
    Real(Vec<f64>),
    /// Indices and masks.
    Integer(Vec<i64>),
    /// Booleans.
    Bool(Vec<bool>),
}

/// Gives the text of a file that the plan names: a vocabulary or a tokenizer.
type ReadVocabulary<'r> = dyn Fn(&Path) -> io::Result<String> + 'r;

/// Encodes the events of one task.
#[derive(Clone, Debug)]
pub struct FeatureEncoder {
    inputs: Vec<Compiled>,
    specs: Vec<TensorSpec>,
}

#[derive(Clone, Debug)]
enum Compiled {
    Scalar(Filler, Kind),
    Matrix(Vec<Filler>),
    Sequence { each: FieldPath, keep_last: usize, mask: bool, columns: Vec<Filler> },
    Text { field: FieldPath, tokens: Box<Tokens>, type_ids: bool },
}

/// A dotted path, split once.
#[derive(Clone, Debug)]
struct FieldPath {
    text: Arc<str>,
    parts: Vec<Arc<str>>,
}

#[derive(Clone, Debug)]
struct Filler {
    path: FieldPath,
    conversion: Conversion,
    missing: Option<f64>,
    vocabulary: Arc<HashMap<String, i64>>,
}

impl FeatureEncoder {
    /// Compiles a task's inputs. `vocabulary` gives the text of a vocabulary's or a tokenizer's file; one that it cannot
    /// give, that has no line for an index in the plan, or that is no tokenizer, is refused with its place.
    pub fn new(task: &Task, vocabulary: &ReadVocabulary<'_>) -> Result<Self, Error> {
        let mut inputs = Vec::new();
        let mut specs = Vec::new();
        for input in &task.inputs {
            match input {
                Input::Scalar { tensor, column } => {
                    let kind = match column.conversion {
                        Conversion::Category(_) => Kind::Integer,
                        Conversion::Boolean => Kind::Bool,
                        _ => Kind::Real,
                    };
                    specs.push(TensorSpec { name: tensor.clone(), kind, dims: Vec::new() });
                    inputs.push(Compiled::Scalar(Filler::new(column, vocabulary)?, kind));
                }
                Input::Matrix { tensor, columns } => {
                    let dims = vec![Dim::Fixed(columns.len())];
                    specs.push(TensorSpec { name: tensor.clone(), kind: Kind::Real, dims });
                    inputs.push(Compiled::Matrix(fillers(columns, vocabulary)?));
                }
                Input::Sequence { tensor, each, keep_last, mask, columns } => {
                    // Without a mask the model cannot tell padding from history. Padded to the batch's longest, a
                    // score would depend on who else is in the batch.
                    let steps = match mask {
                        Some(_) => Dim::Steps { max: *keep_last },
                        None => Dim::Fixed(*keep_last),
                    };
                    let dims = vec![steps, Dim::Fixed(columns.len())];
                    specs.push(TensorSpec { name: tensor.clone(), kind: Kind::Real, dims });
                    if let Some(mask) = mask {
                        specs.push(TensorSpec { name: mask.clone(), kind: Kind::Integer, dims: vec![steps] });
                    }
                    inputs.push(Compiled::Sequence {
                        each: FieldPath::new(each),
                        keep_last: *keep_last,
                        mask: mask.is_some(),
                        columns: fillers(columns, vocabulary)?,
                    });
                }
                Input::Text { tensor, field, tokenizer, max_tokens, mask, type_ids, place } => {
                    let refuse =
                        |why: String| Error::of(place, format!("tokenizer {}: {why}", tokenizer.display()));
                    let text = vocabulary(tokenizer).map_err(|why| refuse(format!("not readable: {why}")))?;
                    let tokens = Box::new(Tokens::new(&text, *max_tokens).map_err(refuse)?);
                    for tensor in [Some(tensor), Some(mask), type_ids.as_ref()].into_iter().flatten() {
                        let dims = vec![Dim::Steps { max: *max_tokens }];
                        specs.push(TensorSpec { name: tensor.clone(), kind: Kind::Integer, dims });
                    }
                    let field = FieldPath::new(field);
                    inputs.push(Compiled::Text { field, tokens, type_ids: type_ids.is_some() });
                }
            }
        }
        Ok(Self { inputs, specs })
    }

    /// The tensors that a row fills.
    pub fn specs(&self) -> &[TensorSpec] {
        &self.specs
    }

    /// The top-level fields of an event that it looks at.
    pub fn fields(&self) -> impl Iterator<Item = &Arc<str>> {
        self.inputs.iter().flat_map(Compiled::paths).filter_map(|path| path.parts.first())
    }

    /// Encodes one event's fields.
    pub fn encode(&self, event: &Value) -> Result<Row, Rejection> {
        let mut tensors = Vec::with_capacity(self.specs.len());
        for input in &self.inputs {
            match input {
                Compiled::Scalar(filler, kind) => {
                    let number = filler.number(event)?;
                    let data = match kind {
                        Kind::Real => TensorData::Real(vec![number]),
                        Kind::Integer => TensorData::Integer(vec![number as i64]),
                        Kind::Bool => TensorData::Bool(vec![number != 0.0]),
                    };
                    tensors.push(RowTensor { steps: 0, data });
                }
                Compiled::Matrix(columns) => {
                    let numbers = columns.iter().map(|c| c.number(event)).collect::<Result<_, _>>()?;
                    tensors.push(RowTensor { steps: 0, data: TensorData::Real(numbers) });
                }
                Compiled::Sequence { each, keep_last, mask, columns } => {
                    let items = each.list(event)?;
                    let kept = &items[items.len().saturating_sub(*keep_last)..];
                    let mut numbers = Vec::with_capacity(kept.len() * columns.len());
                    for item in kept {
                        for column in columns {
                            numbers.push(column.number(item).map_err(|why| within(each, why))?);
                        }
                    }
                    if !*mask {
                        numbers.resize(keep_last * columns.len(), 0.0);
                        tensors.push(RowTensor { steps: 0, data: TensorData::Real(numbers) });
                    } else {
                        tensors.push(RowTensor { steps: kept.len(), data: TensorData::Real(numbers) });
                        let ones = TensorData::Integer(vec![1; kept.len()]);
                        tensors.push(RowTensor { steps: kept.len(), data: ones });
                    }
                }
                Compiled::Text { field, tokens, type_ids } => {
                    let ids = tokens.of(field.text(event)?).map_err(|why| {
                        Rejection::new(Reason::WrongType, format!("field `{}`: {why}", field.text))
                    })?;
                    let steps = ids.len();
                    let mut push = |data| tensors.push(RowTensor { steps, data: TensorData::Integer(data) });
                    push(ids);
                    push(vec![1; steps]);
                    if *type_ids {
                        push(vec![0; steps]);
                    }
                }
            }
        }
        Ok(Row { tensors })
    }
}

fn within(each: &FieldPath, why: Rejection) -> Rejection {
    Rejection::new(why.reason, format!("in an item of `{}`: {}", each.text, why.detail))
}

fn fillers(columns: &[Column], vocabulary: &ReadVocabulary<'_>) -> Result<Vec<Filler>, Error> {
    columns.iter().map(|column| Filler::new(column, vocabulary)).collect()
}

impl Compiled {
    /// What is read of the event itself.
    fn paths(&self) -> Vec<&FieldPath> {
        match self {
            Self::Scalar(filler, _) => vec![&filler.path],
            Self::Matrix(fillers) => fillers.iter().map(|filler| &filler.path).collect(),
            Self::Sequence { each: path, .. } | Self::Text { field: path, .. } => vec![path],
        }
    }
}

impl FieldPath {
    fn new(text: &Arc<str>) -> Self {
        Self { text: text.clone(), parts: text.split('.').map(Into::into).collect() }
    }

    fn find<'v>(&self, event: &'v Value) -> Option<&'v Value> {
        self.parts.iter().try_fold(event, |value, name| value.get(name))
    }

    fn text<'v>(&self, event: &'v Value) -> Result<&'v str, Rejection> {
        let name = &self.text;
        match self.find(event) {
            Some(Value::Text(text)) => Ok(text),
            None => Err(Rejection::new(Reason::MissingField, format!("field `{name}` is missing"))),
            Some(Value::Null) => Err(Rejection::new(Reason::MissingField, format!("field `{name}` is null"))),
            Some(other) => {
                let detail = format!("field `{name}` is {} where a text is needed", other.kind());
                Err(Rejection::new(Reason::WrongType, detail))
            }
        }
    }

    /// The list's items. Absent and null are an empty list: a first customer has no history.
    fn list<'v>(&self, event: &'v Value) -> Result<&'v [Value], Rejection> {
        match self.find(event) {
            None | Some(Value::Null) => Ok(&[]),
            Some(Value::List(items)) => Ok(items),
            Some(other) => {
                let detail = format!("field `{}` is {} where a list is needed", self.text, other.kind());
                Err(Rejection::new(Reason::WrongType, detail))
            }
        }
    }
}

/// A vocabulary's lines with their indices. An index past its end would make the model look beyond its table.
fn words(
    column: &Column,
    from: &Vocabulary,
    vocabulary: &ReadVocabulary<'_>,
) -> Result<HashMap<String, i64>, Error> {
    let file = from.file.display();
    let refuse = |message: String| Error::of(&column.place, format!("field `{}`: {message}", column.field));
    let text = vocabulary(&from.file)
        .map_err(|error| refuse(format!("vocabulary {file} is not readable: {error}")))?;
    let lines = text.lines().count();
    let given = [("unknown", from.unknown.map(|index| index as f64)), ("missing", column.missing)];
    for (what, index) in given {
        if let Some(index) = index.filter(|index| *index >= lines as f64) {
            return Err(refuse(format!(
                "`{what}` is {index} and vocabulary {file} has {lines} lines, counted from 0"
            )));
        }
    }
    Ok(text.lines().enumerate().map(|(at, line)| (line.trim_end().to_owned(), at as i64)).collect())
}

/// Up to here an `f64` holds every integer; beyond, the model would get another number than the event has.
const EXACT: i64 = 1 << 53;

impl Filler {
    fn new(column: &Column, vocabulary: &ReadVocabulary<'_>) -> Result<Self, Error> {
        let words = match &column.conversion {
            Conversion::Category(from) => words(column, from, vocabulary)?,
            _ => HashMap::new(),
        };
        Ok(Self {
            path: FieldPath::new(&column.field),
            conversion: column.conversion.clone(),
            missing: column.missing,
            vocabulary: Arc::new(words),
        })
    }

    fn number(&self, event: &Value) -> Result<f64, Rejection> {
        let name = &self.path.text;
        let value = match (self.path.find(event), self.missing) {
            (None | Some(Value::Null), Some(number)) => return Ok(number),
            (None, None) => {
                return Err(Rejection::new(Reason::MissingField, format!("field `{name}` is missing")));
            }
            (Some(Value::Null), None) => {
                return Err(Rejection::new(Reason::MissingField, format!("field `{name}` is null")));
            }
            (Some(value), _) => value,
        };
        let wrong = |needed: &str| {
            let detail = format!("field `{name}` is {} where {needed} is needed", value.kind());
            Err(Rejection::new(Reason::WrongType, detail))
        };
        match &self.conversion {
            Conversion::Number => match value {
                Value::Int(int) if (-EXACT..=EXACT).contains(int) => Ok(*int as f64),
                Value::Int(int) => {
                    let detail = format!(
                        "field `{name}` is {int}, beyond the 2^53 up to which a model's number is exact; give an id as text, with a `vocabulary`"
                    );
                    Err(Rejection::new(Reason::NotFinite, detail))
                }
                Value::Float(float) if float.is_finite() => Ok(*float),
                Value::Float(float) => {
                    Err(Rejection::new(Reason::NotFinite, format!("field `{name}` is {float}")))
                }
                _ => wrong("a number"),
            },
            Conversion::Boolean => match value {
                Value::Bool(flag) => Ok(f64::from(u8::from(*flag))),
                _ => wrong("a boolean"),
            },
            Conversion::Category(from) => {
                let index = match value {
                    Value::Text(text) => self.vocabulary.get(&**text),
                    Value::Int(int) => self.vocabulary.get(&int.to_string()),
                    Value::Bool(flag) => self.vocabulary.get(if *flag { "true" } else { "false" }),
                    _ => return wrong("a category"),
                };
                index.copied().or(from.unknown).map(|index| index as f64).ok_or_else(|| {
                    let detail =
                        format!("field `{name}` holds a category that {} lacks", from.file.display());
                    Rejection::new(Reason::UnknownCategory, detail)
                })
            }
            conversion => {
                let Some(micros) = instant::micros(value) else { return wrong("a timestamp") };
                let micros = micros.map_err(|why| {
                    Rejection::new(Reason::InvalidTimestamp, format!("field `{name}` {why}"))
                })?;
                Ok(match conversion {
                    Conversion::EpochMillis => micros.div_euclid(1000) as f64,
                    Conversion::HourOfDay(zone) => instant::hour_of_day(micros, *zone),
                    Conversion::DayOfWeek(zone) => instant::day_of_week(micros, *zone),
                    _ => micros as f64 / 1e6,
                })
            }
        }
    }
}
