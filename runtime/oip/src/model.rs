use std::collections::BTreeMap;

use mayfly_abi::DataType;
use mayfly_abi::limits::TENSOR_RANK;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::shown;
use crate::shapes::Shapes;
use crate::{CONFIG_PLATFORM, Error, PLATFORM};

/// Inputs and outputs of a model at most, each.
pub(crate) const PORTS: usize = 256;
/// Parameters of a model at most.
const PARAMETERS: usize = 64;

/// An input or an output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Of its elements.
    pub datatype: DataType,
    /// Size of each dimension; -1 takes any.
    pub shape: Vec<i64>,
}

/// What a model's function says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// What it needs.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
    /// What it says beside that, such as how a picture becomes an input.
    pub parameters: BTreeMap<String, String>,
    /// Which shapes it is ready for, if they are not fixed.
    pub shapes: Option<Shapes>,
}

#[derive(Deserialize)]
struct RawModel {
    inputs: Vec<RawPort>,
    outputs: Vec<RawPort>,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawPort {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

impl Model {
    /// Reads what a function answered to `GET /`; fields that the protocol does not know are left out.
    ///
    /// # Errors
    /// [`Error::Frame`]: it is the function's fault.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let raw: RawModel = serde_json::from_slice(json)
            .map_err(|error| Error::Frame(format!("its metadata: {error}")))?;
        if raw.parameters.len() > PARAMETERS {
            return Err(Error::Frame(format!("its metadata: more than {PARAMETERS} parameters")));
        }
        let (inputs, outputs) = (ports(raw.inputs)?, ports(raw.outputs)?);
        let shapes = Shapes::of(&raw.parameters);
        Ok(Self { inputs, outputs, parameters: raw.parameters, shapes })
    }

    /// The protocol's model metadata.
    #[must_use]
    pub fn to_json(&self, name: &str, version: &str) -> Vec<u8> {
        let ports = |ports: &[Port]| -> Vec<Value> { ports.iter().map(Port::to_json).collect() };
        let mut body = json!({
            "name": name, "versions": [version], "platform": PLATFORM,
            "inputs": ports(&self.inputs), "outputs": ports(&self.outputs),
        });
        if !self.parameters.is_empty() {
            body["parameters"] = json!(self.parameters);
        }
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// Triton's model configuration, as far as there is one: a model that takes what its shapes say, without batching, on
    /// so many instances at once.
    #[must_use]
    pub fn config_json(&self, name: &str, instances: u64) -> Vec<u8> {
        let said = self
            .parameters
            .iter()
            .map(|(name, value)| (name.clone(), json!({ "string_value": value })));
        let said: serde_json::Map<_, _> = said.collect();
        let body = json!({
            "name": name, "platform": CONFIG_PLATFORM, "backend": "mayfly", "runtime": "",
            "version_policy": {"latest": {"num_versions": 1}},
            // The first dimension is the model's own, as the others are.
            "max_batch_size": 0,
            "input": self.inputs.iter().map(Port::input_config).collect::<Vec<_>>(),
            "output": self.outputs.iter().map(Port::output_config).collect::<Vec<_>>(),
            "instance_group": [{"name": name, "kind": "KIND_CPU", "count": instances}],
            "default_model_filename": "", "cc_model_filenames": {}, "metric_tags": {}, "parameters": said,
            "batch_input": [], "batch_output": [], "model_warmup": [],
            "model_transaction_policy": {"decoupled": false},
        });
        serde_json::to_vec(&body).unwrap_or_default()
    }

    pub(crate) fn input(&self, name: &str) -> Result<&Port, Error> {
        self.inputs.iter().find(|port| port.name == name).ok_or_else(|| {
            let known = list(&self.inputs);
            Error::Request(format!("the model has no input {:?}; its inputs: {known}", shown(name)))
        })
    }

    pub(crate) fn check_output(&self, name: &str) -> Result<(), Error> {
        if self.outputs.iter().any(|port| port.name == name) {
            return Ok(());
        }
        let known = list(&self.outputs);
        Err(Error::Request(format!(
            "the model has no output {:?}; its outputs: {known}",
            shown(name)
        )))
    }
}

impl Port {
    /// Whether a tensor of this shape can be this input.
    pub(crate) fn takes(&self, shape: &[u64]) -> bool {
        self.shape.len() == shape.len()
            && self
                .shape
                .iter()
                .zip(shape)
                .all(|(mine, size)| u64::try_from(*mine).map_or(true, |mine| mine == *size))
    }

    fn input_config(&self) -> Value {
        json!({
            "name": self.name, "data_type": config_type(self.datatype), "dims": self.shape,
            "format": "FORMAT_NONE", "is_shape_tensor": false, "allow_ragged_batch": false, "optional": false,
        })
    }

    fn output_config(&self) -> Value {
        json!({
            "name": self.name, "data_type": config_type(self.datatype), "dims": self.shape,
            "label_filename": "", "is_shape_tensor": false,
        })
    }

    fn to_json(&self) -> Value {
        json!({ "name": self.name, "datatype": self.datatype.name(), "shape": self.shape })
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {} {:?}", self.name, self.datatype.name(), self.shape)
    }
}

/// A datatype in the words of Triton's configuration, which has two names for one of them.
fn config_type(datatype: DataType) -> String {
    match datatype {
        DataType::Bytes => "TYPE_STRING".to_owned(),
        other => format!("TYPE_{}", other.name()),
    }
}

pub(crate) fn list(ports: &[Port]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn ports(raw: Vec<RawPort>) -> Result<Vec<Port>, Error> {
    let wrong = |why: String| Err(Error::Frame(format!("its metadata: {why}")));
    if raw.len() > PORTS {
        return wrong(format!("more than {PORTS} inputs or outputs"));
    }
    let mut ports: Vec<Port> = Vec::with_capacity(raw.len());
    for RawPort { name, datatype, shape } in raw {
        let Some(datatype) = DataType::from_name(&datatype) else {
            return wrong(format!("{name:?} has the unknown datatype {datatype:?}"));
        };
        if shape.len() > TENSOR_RANK || shape.iter().any(|size| *size < -1) {
            return wrong(format!("{name:?} has the shape {shape:?}"));
        }
        if ports.iter().any(|port| port.name == name) {
            return wrong(format!("{name:?} is there twice"));
        }
        ports.push(Port { name, datatype, shape });
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IRIS: &str = r#"{"inputs":[{"name":"input","datatype":"FP32","shape":[-1,4]}],
        "outputs":[{"name":"p","datatype":"FP32","shape":[-1,3]}],"image":{"layout":"nchw"}}"#;

    #[test]
    fn what_a_function_says_of_itself_becomes_the_protocols_metadata() {
        let model = Model::parse(IRIS.as_bytes()).unwrap();
        let json: Value = serde_json::from_slice(&model.to_json("iris", "3")).unwrap();
        assert_eq!(json["name"], "iris");
        assert_eq!(json["versions"], json!(["3"]));
        assert_eq!(json["platform"], "onnx_onnxv1");
        assert_eq!(
            json["inputs"],
            json!([{"name": "input", "datatype": "FP32", "shape": [-1, 4]}])
        );
        assert!(json.get("image").is_none() && json.get("parameters").is_none());
    }

    #[test]
    fn the_configuration_says_the_same_in_tritons_words() {
        let text =
            IRIS.replace(r#""name":"p","datatype":"FP32""#, r#""name":"p","datatype":"BYTES""#);
        let model = Model::parse(text.as_bytes()).unwrap();
        let json: Value = serde_json::from_slice(&model.config_json("iris", 7)).unwrap();
        assert_eq!((&json["name"], &json["max_batch_size"]), (&json!("iris"), &json!(0)));
        assert_eq!(json["platform"], "onnxruntime_onnx");
        assert_eq!(json["instance_group"][0]["count"], 7);
        let input = &json["input"][0];
        assert_eq!((&input["name"], &input["data_type"]), (&json!("input"), &json!("TYPE_FP32")));
        assert_eq!(input["dims"], json!([-1, 4]));
        assert_eq!(json["output"][0]["data_type"], "TYPE_STRING");
    }

    #[test]
    fn what_a_model_says_beside_its_ports_is_passed_on() {
        let said = IRIS.replace(r#""image""#, r#""parameters":{"picture_fit":"crop"},"image""#);
        let model = Model::parse(said.as_bytes()).unwrap();
        let json: Value = serde_json::from_slice(&model.to_json("iris", "3")).unwrap();
        assert_eq!(json["parameters"], json!({"picture_fit": "crop"}));
        let json: Value = serde_json::from_slice(&model.config_json("iris", 7)).unwrap();
        assert_eq!(json["parameters"]["picture_fit"]["string_value"], "crop");
        let numbers = said.replace(r#""crop""#, "[1]");
        assert_eq!(Model::parse(numbers.as_bytes()).unwrap_err().status(), 502);
    }

    #[test]
    fn an_open_dimension_takes_any_size_and_a_fixed_one_its_own() {
        let model = Model::parse(IRIS.as_bytes()).unwrap();
        let input = model.input("input").unwrap();
        for (shape, fits) in [(&[1, 4][..], true), (&[9, 4], true), (&[1, 3], false), (&[4], false)]
        {
            assert_eq!(input.takes(shape), fits, "{shape:?}");
        }
    }

    #[test]
    fn metadata_that_cannot_be_is_the_functions_fault() {
        for (from, to) in [("FP32", "FP8"), ("[-1,4]", "[-2,4]"), ("\"inputs\"", "\"in\"")] {
            let error = Model::parse(IRIS.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert_eq!(error.status(), 502, "{error}");
        }
    }
}
