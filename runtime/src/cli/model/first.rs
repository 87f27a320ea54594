//! The first inference of a model that was just deployed: proof that it runs, and how long that takes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use serde_json::{Value, json};

use super::super::client::{self, json as read_json};
use super::super::connector::{self, Trusted};
use super::super::output::{self, text};
use super::super::{Failure, code};

/// Inferences after the first one; their median is what a caller can count on.
const RUNS: usize = 5;

/// Prints a model's inputs, outputs and times, from the gateway; one that cannot be tried out from here is not a failure.
pub(in super::super) async fn show(url: &str) -> Result<(), Failure> {
    let (model, described) = match metadata(url).await {
        Ok(found) => found,
        Err(why) => return output::line(format_args!("  not tried out: {}", why.text)),
    };
    ports(&described)?;
    let Some((body, json_bytes)) = zeros(&described) else {
        return output::line(
            "  its inputs have dimensions that nothing is made ready for: not tried out",
        );
    };
    let mut times = Vec::with_capacity(RUNS + 1);
    for _ in 0..=RUNS {
        let began = Instant::now();
        let done =
            send(Method::POST, &format!("{model}/infer"), body.clone(), Some(json_bytes)).await;
        times.push(began.elapsed());
        if let Err(why) = done {
            return output::line(format_args!(
                "  the first inference, on zeros, failed: {}",
                why.text
            ));
        }
    }
    let first = times[0];
    let rest = &mut times[1..];
    rest.sort_unstable();
    let (first, median) = (ms(first), ms(rest[rest.len() / 2]));
    output::line(format_args!("  inference  first {first}, then {median} (on zeros, over HTTP)"))?;
    output::line(format_args!("  protocol   {model}/infer"))
}

/// What the model at a function's address says of itself, and where it is asked.
///
/// # Errors
/// Why it says nothing: the gateway cannot be reached from here, or it answered with something else.
pub(in super::super) async fn metadata(url: &str) -> Result<(String, Value), Failure> {
    let failed = |why: String| Failure::new(code::FAILED, why);
    let (gateway, name) =
        url.rsplit_once('/').ok_or_else(|| failed(format!("'{url}' is no address")))?;
    let model = format!("{gateway}/v2/models/{name}");
    let described = send(Method::GET, &model, Bytes::new(), None).await;
    let described = described.map_err(|why| match why.code {
        code::UNREACHABLE => why,
        _ => failed(format!("asked what it takes, {model} answered {}", why.text)),
    })?;
    Ok((model, described))
}

/// Prints a model's inputs and outputs, and how a picture becomes the one, if it does.
pub(in super::super) fn ports(described: &Value) -> Result<(), Failure> {
    for (word, key) in [("input", "/inputs"), ("output", "/outputs")] {
        for port in described.pointer(key).and_then(Value::as_array).into_iter().flatten() {
            let (name, datatype) = (text(port, "/name"), text(port, "/datatype"));
            let name = mayfly_observe::logs::escape(name.as_bytes());
            output::line(format_args!("  {word:<10} {name} {datatype} {}", port["shape"]))?;
        }
    }
    let said = described["parameters"].as_object().into_iter().flatten();
    let picture = said.filter_map(|(name, value)| {
        Some(format!("{} {}", name.strip_prefix("picture_")?, value.as_str()?))
    });
    let picture: Vec<_> = picture.collect();
    if picture.is_empty() {
        Ok(())
    } else {
        output::line(format_args!("  pictures   {}", picture.join("; ")))
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// The shape of an input: its own, or the first that a plan is ready for.
fn shape(described: &Value, port: &Value) -> Option<Vec<u64>> {
    let sizes = |shape: &Value| -> Option<Vec<u64>> {
        shape.as_array()?.iter().map(Value::as_u64).collect()
    };
    sizes(&port["shape"]).or_else(|| {
        let ready = described.pointer("/parameters/ready_shapes")?.as_str()?;
        let ready: Value = serde_json::from_str(ready).ok()?;
        sizes(&ready[0][port["name"].as_str()?])
    })
}

/// A request with zeros for every input, in binary.
fn zeros(described: &Value) -> Option<(Bytes, usize)> {
    let mut inputs = Vec::new();
    let mut total = 0;
    for port in described["inputs"].as_array()? {
        let sizes = shape(described, port)?;
        // An empty text is its length of four bytes.
        let size = mayfly_abi::DataType::from_name(text(port, "/datatype"))?.size().unwrap_or(4);
        let bytes = sizes.iter().product::<u64>() * size as u64;
        total += usize::try_from(bytes).ok()?;
        inputs.push(json!({
            "name": port["name"], "datatype": port["datatype"], "shape": sizes,
            "parameters": { "binary_data_size": bytes },
        }));
    }
    let request = json!({ "inputs": inputs, "parameters": { "binary_data_output": true } });
    let mut body = request.to_string().into_bytes();
    let json_bytes = body.len();
    body.resize(json_bytes + total, 0);
    Some((body.into(), json_bytes))
}

async fn send(
    method: Method,
    url: &str,
    body: Bytes,
    json_bytes: Option<usize>,
) -> Result<Value, Failure> {
    let failed = |why: String| Failure::new(code::FAILED, why);
    let mut request = Request::builder().method(method).uri(url);
    if let Some(bytes) = json_bytes {
        request = request
            .header(mayfly_oip::HEADER_LENGTH, bytes)
            .header(header::CONTENT_TYPE, "application/octet-stream");
    }
    let request = request.body(Full::new(body)).map_err(|why| failed(why.to_string()))?;
    let response = connector::http(url, Trusted::System)?.request(request).await;
    let response = response.map_err(|why| client::lost(url, &why))?;
    let status = response.status();
    if status.is_success() && json_bytes.is_some() {
        use http_body_util::BodyExt as _;
        let read = response.into_body().collect().await;
        return read.map(|_| Value::Null).map_err(|why| failed(why.to_string()));
    }
    let answer = read_json(response.into_body()).await?;
    if status.is_success() {
        return Ok(answer);
    }
    let error = match text(&answer, "/error") {
        "" => text(&answer, "/title"),
        error => error,
    };
    let error = mayfly_observe::logs::escape(error.as_bytes());
    Err(failed(format!("{status}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_shape_is_tried_out_with_one_that_is_ready() {
        let described = |shape: Value, ready: &str| {
            json!({
                "inputs": [{"name": "x", "datatype": "FP32", "shape": shape}],
                "parameters": {"ready_shapes": ready},
            })
        };
        let open = |ready: &str| described(json!([-1, 3]), ready);
        let bytes = |described: &Value| zeros(described).map(|(body, json)| body.len() - json);
        assert_eq!(bytes(&described(json!([2, 3]), "")), Some(24));
        assert_eq!(bytes(&described(json!([-1, 3]), r#"[{"x":[5,3]},{"x":[7,3]}]"#)), Some(60));
        let described = json!({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [3]}]});
        assert_eq!(bytes(&described), Some(12));
        for ready in ["", "[]", "{}", r#"[{"x":[-1]}]"#, r#"[{"y":[1]}]"#] {
            assert_eq!(bytes(&open(ready)), None, "{ready}");
        }
    }
}
