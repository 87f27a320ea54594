//! Wraps a core module that imports preview 1 into a component: `componentize IN.wasm OUT.wasm`.

#[cfg(not(target_family = "wasm"))]
fn main() -> anyhow::Result<()> {
    use anyhow::Context as _;
    use wasi_preview1_component_adapter_provider::{
        WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_PROXY_ADAPTER,
    };
    let mut arguments = std::env::args().skip(1);
    let (input, output) = (arguments.next(), arguments.next());
    let (input, output) = input.zip(output).context("usage: componentize IN.wasm OUT.wasm")?;
    let component = wit_component::ComponentEncoder::default()
        .module(&std::fs::read(input)?)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_PROXY_ADAPTER)?
        .validate(true)
        .encode()?;
    Ok(std::fs::write(output, component)?)
}

#[cfg(target_family = "wasm")]
fn main() {}
