//! Times a model in tract as it is, compiled for this machine: what `bench/models/compare.py` compares the sandbox
//! with. Says "ready", then answers each line of stdin: `run` with the milliseconds of one inference, by the wall and
//! of CPU; `outputs FILE` by writing the last outputs there as 32-bit floats.
//!
//! Usage: time_tract MODEL.onnx NAME:DATATYPE:SIZExSIZE:FILE...

use std::io::BufRead;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tract_onnx::prelude::*;

struct Input {
    name: String,
    tensor: Tensor,
}

fn input(argument: &str) -> Result<Input> {
    // From the right: a name may have colons.
    let parts: Vec<&str> = argument.rsplitn(4, ':').collect();
    let [file, shape, datatype, name] = *parts else {
        bail!("{argument}: not NAME:TYPE:SHAPE:FILE")
    };
    let datum = match datatype {
        "FP32" => DatumType::F32,
        "INT32" => DatumType::I32,
        "INT64" => DatumType::I64,
        other => bail!("{other}: FP32, INT32 and INT64 are known"),
    };
    let shape = shape.split('x').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
    let bytes = std::fs::read(file).context(file.to_owned())?;
    let flat = match datum {
        DatumType::F32 => tensor1(&numbers(&bytes, f32::from_le_bytes)),
        DatumType::I32 => tensor1(&numbers(&bytes, i32::from_le_bytes)),
        _ => tensor1(&numbers(&bytes, i64::from_le_bytes)),
    };
    Ok(Input { name: name.to_owned(), tensor: flat.into_shape(&shape)? })
}

fn numbers<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).collect()
}

/// CPU time of this thread, in milliseconds.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("usage: time_tract MODEL.onnx INPUT...")?;
    let given = arguments.map(|argument| input(&argument)).collect::<Result<Vec<_>>>()?;
    let mut model = tract_onnx::onnx().with_ignore_value_info(true).model_for_path(path)?;
    let mut inputs: TVec<TValue> = tvec!();
    for (i, outlet) in model.input_outlets()?.to_vec().into_iter().enumerate() {
        let name = model.node(outlet.node).name.clone();
        let found = given.iter().find(|input| input.name == name);
        let tensor = found.with_context(|| format!("input {name} is not given"))?.tensor.clone();
        model.set_input_fact(i, InferenceFact::dt_shape(tensor.datum_type(), tensor.shape()))?;
        inputs.push(tensor.into_tvalue());
    }
    let plan = model.into_optimized()?.into_runnable()?;
    let mut outputs = plan.run(inputs.clone())?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ') {
            None if line == "run" => {
                let (start, cpu_start) = (Instant::now(), cpu());
                outputs = plan.run(inputs.clone())?;
                let cpu = cpu() - cpu_start;
                println!("{:.6} {cpu:.6}", start.elapsed().as_secs_f64() * 1e3);
            }
            Some(("outputs", file)) => {
                let mut bytes = Vec::new();
                for output in &outputs {
                    let floats = output.cast_to::<f32>()?;
                    let floats = floats.try_as_plain_ram()?;
                    bytes.extend(floats.as_slice::<f32>()?.iter().flat_map(|v| v.to_le_bytes()));
                }
                std::fs::write(file, bytes)?;
                println!("written");
            }
            _ => bail!("{line}: not run, not outputs FILE"),
        }
    }
    Ok(())
}
