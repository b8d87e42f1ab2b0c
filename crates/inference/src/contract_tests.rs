//! What fits, what does not, and what the refusal says.

use twinlane_pipeline::{Dim, Kind, OutputKind};

use super::*;

const BATCH: &str = "batch";

fn tensor(name: &str, element: Element, dims: &[&str]) -> Tensor {
    let extent = |dim: &&str| match dim.parse() {
        Ok(size) => Extent::Fixed(size),
        Err(_) if *dim == "?" => Extent::Open,
        Err(_) => Extent::Named((*dim).to_owned()),
    };
    Tensor { name: name.to_owned(), element, dims: dims.iter().map(extent).collect() }
}

fn given(name: &str, dims: &[Dim]) -> TensorSpec {
    TensorSpec { name: name.into(), kind: Kind::Real, dims: dims.to_vec() }
}

fn reads(tensor: &str, kind: OutputKind) -> OutputSpec {
    OutputSpec { name: "answer".into(), tensor: tensor.into(), kind }
}

fn classes(labels: &[&str], apply: Option<Apply>) -> OutputKind {
    OutputKind::Class { labels: labels.iter().map(|&label| label.into()).collect(), apply }
}

fn bind_one_input(model: Tensor, spec: TensorSpec) -> Result<BoundInput, String> {
    let signature = Signature { inputs: vec![model], outputs: vec![] };
    bind(&signature, &[spec], &[], 32)
        .map(|binding| binding.inputs.into_iter().next().unwrap())
        .map_err(|problems| problems[0].to_string())
}

fn bind_one_output(model: Tensor, kind: OutputKind) -> Result<Read, String> {
    let spec = reads(&model.name.clone(), kind);
    let signature = Signature { inputs: vec![], outputs: vec![model] };
    bind(&signature, &[], &[spec], 32)
        .map(|binding| binding.outputs.into_iter().next().unwrap().read)
        .map_err(|problems| problems[0].to_string())
}

#[test]
fn a_matrix_fits_its_columns_and_says_so_when_it_does_not() {
    let model = || tensor("row", Element::F32, &[BATCH, "3"]);
    assert_eq!(bind_one_input(model(), given("row", &[Dim::Fixed(3)])).unwrap().inner, [3]);
    assert_eq!(
        bind_one_input(model(), given("row", &[Dim::Fixed(2)])).unwrap_err(),
        "input `row`: the model takes f32[batch, 3], the pipeline gives [batch, 2]; \
         give it 3 columns, or export the model with 2"
    );
}

#[test]
fn one_value_per_row_fits_with_and_without_a_dimension_of_one() {
    let scalar = || given("x", &[]);
    assert_eq!(bind_one_input(tensor("x", Element::I64, &[BATCH]), scalar()).unwrap().inner, [0; 0]);
    assert_eq!(bind_one_input(tensor("x", Element::I64, &[BATCH, "1"]), scalar()).unwrap().inner, [1]);
    let column = given("x", &[Dim::Fixed(1)]);
    assert_eq!(bind_one_input(tensor("x", Element::F32, &["?"]), column).unwrap().inner, [0; 0]);
    assert!(bind_one_input(tensor("x", Element::I64, &[BATCH, "2"]), scalar()).is_err());
}

#[test]
fn a_model_with_fixed_steps_is_padded_to_them_or_refused() {
    let fixed = || tensor("history", Element::F32, &[BATCH, "8", "2"]);
    let steps = |max| given("history", &[Dim::Steps { max }, Dim::Fixed(2)]);
    assert_eq!(bind_one_input(fixed(), steps(6)).unwrap().steps.unwrap().exactly, Some(8));
    assert!(bind_one_input(fixed(), steps(9)).unwrap_err().contains("set `keep_last: 8`"));
    let dynamic = tensor("history", Element::F32, &[BATCH, "steps", "2"]);
    assert_eq!(bind_one_input(dynamic, steps(6)).unwrap().steps.unwrap().exactly, None);
}

#[test]
fn tensors_whose_steps_have_one_name_are_padded_together() {
    let model = Signature {
        inputs: vec![
            tensor("a", Element::F32, &[BATCH, "steps", "1"]),
            tensor("b", Element::F32, &[BATCH, "others", "1"]),
            tensor("a_mask", Element::Bool, &[BATCH, "steps"]),
        ],
        outputs: vec![],
    };
    let steps = [Dim::Steps { max: 4 }, Dim::Fixed(1)];
    let specs = [given("a_mask", &steps[..1]), given("a", &steps), given("b", &steps)];
    let binding = bind(&model, &specs, &[], 32).unwrap();
    let groups: Vec<usize> = binding.inputs.iter().map(|input| input.steps.unwrap().group).collect();
    assert_eq!((groups, binding.step_groups), (vec![0, 1, 0], 2));
    let in_row: Vec<usize> = binding.inputs.iter().map(|input| input.in_row).collect();
    assert_eq!(in_row, [1, 2, 0], "the model's order, found in the row");
}

#[test]
fn everything_that_does_not_fit_is_said_at_once() {
    let model = Signature {
        inputs: vec![
            tensor("amount", Element::F32, &[BATCH, "1"]),
            tensor("country", Element::Text, &[BATCH]),
        ],
        outputs: vec![tensor("logits", Element::F32, &[BATCH, "2"])],
    };
    let inputs = [given("amout", &[]), given("country", &[])];
    let outputs = [reads("probabilities", OutputKind::Vector)];
    let said: Vec<String> =
        bind(&model, &inputs, &outputs, 32).unwrap_err().iter().map(Mismatch::to_string).collect();
    assert_eq!(
        said,
        [
            "input `amout`: the pipeline fills it, the model has `amount`, `country`; \
             rename it in the pipeline to what the model calls it, or take it out",
            "input `amount`: the model needs f32[batch, 1], the pipeline does not fill it; \
             add it to the task's `inputs`, or export the model without it",
            "input `country`: the model takes text[batch], the pipeline gives [batch]; \
             export it with a numeric input (f16, f32, f64, i32, i64 or bool)",
            "output `probabilities`: output `answer` reads it, the model has `logits`; \
             name one of these as its `tensor`",
        ]
    );
}

#[test]
fn a_fixed_batch_is_refused_unless_every_batch_is_one() {
    let model = Signature {
        inputs: vec![tensor("x", Element::F32, &["1", "2"])],
        outputs: vec![tensor("y", Element::F32, &["1", "1"])],
    };
    let (inputs, outputs) = ([given("x", &[Dim::Fixed(2)])], [reads("y", OutputKind::Number)]);
    let problems = bind(&model, &inputs, &outputs, 32).unwrap_err();
    assert_eq!(problems.len(), 2);
    assert!(problems[0].to_string().contains("dynamic first dimension"), "{}", problems[0]);
    assert!(bind(&model, &inputs, &outputs, 1).is_ok());
}

#[test]
fn labels_are_counted_against_the_last_dimension() {
    let three = || tensor("logits", Element::F32, &[BATCH, "3"]);
    assert!(bind_one_output(three(), classes(&["a", "b", "c"], Some(Apply::Softmax))).is_ok());
    assert_eq!(
        bind_one_output(three(), classes(&["a", "b"], None)).unwrap_err(),
        "output `logits`: the model gives f32[batch, 3], the pipeline has 2 labels; \
         list 3 labels, in the order of the model's classes"
    );
    let unknown = tensor("logits", Element::F32, &[BATCH, "?"]);
    assert!(bind_one_output(unknown, classes(&["a", "b"], None)).is_ok(), "told at run time only");
}

#[test]
fn one_logit_tells_two_classes_apart_by_sigmoid() {
    let one = || tensor("logit", Element::F32, &[BATCH, "1"]);
    let two = |apply| classes(&["no", "yes"], apply);
    assert!(matches!(bind_one_output(one(), two(Some(Apply::Sigmoid))), Ok(Read::OneOfTwo { .. })));
    assert!(matches!(bind_one_output(one(), two(None)), Ok(Read::OneOfTwo { .. })));
    assert!(bind_one_output(one(), two(Some(Apply::Softmax))).unwrap_err().contains("apply: sigmoid"));
}

#[test]
fn labels_that_the_model_gives_itself_are_read_by_text_number_or_index() {
    let by = |element, labels: &[&str]| match bind_one_output(
        tensor("l", element, &[BATCH]),
        classes(labels, None),
    ) {
        Ok(Read::Label { by, .. }) => by,
        other => panic!("{other:?}"),
    };
    assert_eq!(by(Element::Text, &["ham", "spam"]), LabelBy::Text);
    assert_eq!(by(Element::I64, &["10", "20"]), LabelBy::NumberAsText);
    assert_eq!(by(Element::I64, &["ham", "spam"]), LabelBy::Index);
    let applied =
        bind_one_output(tensor("l", Element::I64, &[BATCH]), classes(&["a", "b"], Some(Apply::Softmax)));
    assert!(applied.unwrap_err().contains("leave out `apply`"));
}

#[test]
fn numbers_and_vectors_are_told_apart_by_shape() {
    let given = |dims: &[&str]| tensor("y", Element::F32, dims);
    assert_eq!(bind_one_output(given(&[BATCH]), OutputKind::Number), Ok(Read::Number));
    assert_eq!(bind_one_output(given(&[BATCH, "1"]), OutputKind::Number), Ok(Read::Number));
    assert_eq!(bind_one_output(given(&[BATCH, "384"]), OutputKind::Vector), Ok(Read::Vector));
    assert!(bind_one_output(given(&[BATCH, "2"]), OutputKind::Number).unwrap_err().contains("kind: vector"));
    assert!(bind_one_output(given(&[BATCH]), OutputKind::Vector).unwrap_err().contains("kind: number"));
}

#[test]
fn a_vector_whose_length_could_depend_on_the_batch_is_refused() {
    let model = |dims: &[&str]| tensor("hidden", Element::F32, dims);
    for dims in [&[BATCH, "steps", "384"][..], &[BATCH, "4", "?"], &[BATCH, "width"], &[]] {
        let refusal = bind_one_output(model(dims), OutputKind::Vector).unwrap_err();
        assert!(refusal.contains("one vector of a fixed length per row"), "{refusal}");
    }
    for dims in [&[BATCH, "384"][..], &[BATCH, "4", "384"]] {
        assert!(bind_one_output(model(dims), OutputKind::Vector).is_ok(), "{dims:?}");
    }
}

#[test]
fn an_output_that_is_as_long_as_the_batchs_longest_event_is_refused_whatever_it_is_read_as() {
    let steps = [Dim::Steps { max: 4 }, Dim::Fixed(1)];
    let bind_reading = |kind, inputs: &[TensorSpec]| {
        let model = Signature {
            inputs: inputs
                .iter()
                .map(|spec| {
                    let dims = [BATCH, "steps", "1"];
                    tensor(&spec.name, Element::F32, &dims[..=spec.dims.len()])
                })
                .collect(),
            outputs: vec![tensor("y", Element::F32, &[BATCH, "steps"])],
        };
        bind(&model, inputs, &[reads("y", kind)], 32)
    };
    let masked = [given("history", &steps), given("mask", &steps[..1])];
    for kind in [OutputKind::Number, OutputKind::Vector, classes(&["a", "b"], None)] {
        let problems = bind_reading(kind, &masked).unwrap_err();
        assert!(
            problems[0].to_string().contains("as long as the longest event of the batch"),
            "{}",
            problems[0]
        );
    }
    let unmasked = [given("history", &[Dim::Fixed(2), Dim::Fixed(1)])];
    assert!(bind_reading(classes(&["a", "b"], None), &unmasked).is_ok(), "always two");
}

#[test]
fn a_sequence_without_a_mask_has_one_length_and_so_have_those_that_share_its_steps() {
    let model = |steps: &str| Signature {
        inputs: vec![
            tensor("masked", Element::F32, &[BATCH, steps, "1"]),
            tensor("mask", Element::Bool, &[BATCH, steps]),
            tensor("bare", Element::F32, &[BATCH, steps, "1"]),
        ],
        outputs: vec![],
    };
    let specs = |max, keep_last| {
        let steps = [Dim::Steps { max }, Dim::Fixed(1)];
        let bare = [Dim::Fixed(keep_last), Dim::Fixed(1)];
        [given("masked", &steps), given("mask", &steps[..1]), given("bare", &bare)]
    };
    let binding = bind(&model("steps"), &specs(4, 6), &[], 32).unwrap();
    let exactly: Vec<_> =
        binding.inputs.iter().map(|input| input.steps.and_then(|steps| steps.exactly)).collect();
    assert_eq!(exactly, [Some(6), Some(6), None]);
    assert_eq!(binding.inputs[2].inner, [6, 1]);
    let problems = bind(&model("steps"), &specs(8, 6), &[], 32).unwrap_err();
    assert!(problems[0].to_string().ends_with("set one `keep_last` for both"), "{}", problems[0]);
    let problems = bind(&model("8"), &specs(4, 6), &[], 32).unwrap_err();
    assert!(problems[0].to_string().contains("set `keep_last: 8`"), "{}", problems[0]);
}
