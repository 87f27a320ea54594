//! The functions that are measured: those of `functions/`, as `make guests` builds them, and a few made here as text.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use wasm_encoder::{CustomSection, Section as _};

/// A module and how it is called.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Its name, and the name it is deployed by.
    pub name: String,
    /// Its bytes.
    pub wasm: Bytes,
    /// What it is.
    pub what: &'static str,
    /// A request that its handler answers without its model.
    pub cheap: Expect,
}

/// A request's path below the function's, and the status that answers it.
#[derive(Debug, Clone, Copy)]
pub struct Expect {
    /// As `/` or `/x`.
    pub path: &'static str,
    /// The status that the guest's own code gives.
    pub status: u16,
}

const OK: Expect = Expect { path: "", status: 200 };
/// The models' functions take nothing but `POST`: their handler says so, with the model in its hands.
const REFUSED: Expect = Expect { path: "", status: 405 };

/// Where built guests are, and the models of those that are made of the stock runner and a model.
#[derive(Debug, Clone)]
pub struct Guests {
    built: PathBuf,
    models: PathBuf,
}

impl Guests {
    /// The directory given, or the one beside this program's: `target/release/mayfly-bench` goes with
    /// `target/wasm32-wasip1/guest`.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn find(given: Option<&Path>, models: &Path) -> anyhow::Result<Self> {
        let models = models.to_owned();
        if let Some(dir) = given {
            return Ok(Self { built: dir.to_owned(), models });
        }
        let program = std::env::current_exe()?;
        let found =
            program.ancestors().map(|dir| dir.join("wasm32-wasip1/guest")).find(|d| d.is_dir());
        let built = found
            .context("no built guests: run `make guests`, or name their directory with --guests")?;
        Ok(Self { built, models })
    }

    /// One of `functions/`.
    ///
    /// # Errors
    /// When it was not built.
    pub fn get(&self, name: &str) -> anyhow::Result<Guest> {
        let (what, cheap) = match name {
            "hello" => ("one fixed answer, with the SDK", OK),
            "hello-command" => ("the same as a plain wasip1 command, without SDK", OK),
            "echo" => ("answers with its request's body", OK),
            "classify" => ("EfficientNet-Lite0, 4.8 MB of weights, JPEG or PNG in", REFUSED),
            "resnet18" => return self.resnet18(),
            _ => ("another function", OK),
        };
        Ok(Guest { name: name.into(), wasm: self.built(name)?.into(), what, cheap })
    }

    fn built(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let path = self.built.join(format!("{name}.wasm"));
        std::fs::read(&path)
            .with_context(|| format!("{} is not there; `make guests` builds it", path.display()))
    }

    /// The stock runner with the model as its asset, as `mayfly deploy resnet18.onnx` packs it.
    fn resnet18(&self) -> anyhow::Result<Guest> {
        let path = self.models.join("resnet18.onnx");
        let model = std::fs::read(&path).with_context(|| {
            format!("{} is not there; `make bench-peers` makes it", path.display())
        })?;
        let mut wasm = self.built("runner")?;
        // The arithmetic on pixels is that of classify, and so of the peers that serve both.
        let config = br#"{"dims": {}, "shapes": {}, "labels": true,
            "image": {"mean": [127, 127, 127], "scale": [128, 128, 128], "layout": "nchw"}}"#;
        let labels: String = (0..1000).map(|class| format!("class {class}\n")).collect();
        add_asset(&mut wasm, "config.json", config);
        add_asset(&mut wasm, "labels.txt", labels.as_bytes());
        add_asset(&mut wasm, "model.onnx", &model);
        let what = "ResNet-18 with seeded weights, 46.7 MB, in the stock runner, JPEG in";
        // The runner has no other path than `/`, and its handler says so.
        let cheap = Expect { path: "/none", status: 404 };
        Ok(Guest { name: "resnet18".into(), wasm: wasm.into(), what, cheap })
    }
}

impl Guests {
    /// A function in another language, as `make languages` builds them: in `languages`, beside the target's directory.
    ///
    /// # Errors
    /// When it was not built.
    pub fn language(&self, name: &str) -> anyhow::Result<Guest> {
        let dir = self.built.ancestors().nth(2).unwrap_or(&self.built).join("languages");
        let path = dir.join(format!("{name}.wasm"));
        let wasm = std::fs::read(&path).with_context(|| {
            format!("{} is not there; `make toolchains languages` builds it", path.display())
        })?;
        Ok(Guest {
            name: name.into(),
            wasm: wasm.into(),
            what: "hello, in its language",
            cheap: OK,
        })
    }
}

fn add_asset(wasm: &mut Vec<u8>, name: &str, data: &[u8]) {
    let name = format!("{}{name}", mayfly_abi::ASSET_SECTION_PREFIX);
    CustomSection { name: name.into(), data: data.into() }.append_to(wasm);
}

/// `hello` under another name and digest, so that a node has to keep it apart.
#[must_use]
pub fn variant(hello: &Guest, number: usize) -> Guest {
    let name = format!("{}-{number}", hello.name);
    let mut wasm = hello.wasm.to_vec();
    let label = format!("bench-{number}");
    CustomSection { name: label.into(), data: (&[]).into() }.append_to(&mut wasm);
    Guest { name, wasm: wasm.into(), ..hello.clone() }
}

/// A function whose init fills so many megabytes (of 2^20) of memory, none of which a request touches.
///
/// # Errors
/// Never for sizes that fit a memory.
pub fn image(mib: u64) -> anyhow::Result<Guest> {
    let pages = 1 + mib * 16;
    let text = format!(
        r#"(module
            (import "mayfly_http_v1" "response_start"
                (func $answer (param i32 i32 i32 i32) (result i32)))
            (import "mayfly_http_v1" "mark" (func $mark (param i32)))
            (memory (export "memory") {pages})
            (data (i32.const 0) "\c8\00\00\00ok")
            (func (export "mayfly_abi_1"))
            (func (export "mayfly_init") (local $at i32)
                (local.set $at (i32.const 65536))
                (block $done (loop $next
                    (br_if $done (i32.ge_u (local.get $at) (i32.mul (i32.const 65536) (memory.size))))
                    (i64.store (local.get $at) (i64.extend_i32_u (i32.or (local.get $at) (i32.const 1))))
                    (local.set $at (i32.add (local.get $at) (i32.const 8)))
                    (br $next))))
            (func (export "mayfly_handle")
                (call $mark (i32.const 0))
                (drop (call $answer (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 2)))))"#
    );
    let wasm = wat::parse_str(&text)?.into();
    Ok(Guest {
        name: format!("image-{mib}"),
        wasm,
        what: "answers `ok` above an image of init's",
        cheap: OK,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_valid_modules_of_their_own() {
        let guest = image(0).unwrap();
        let (a, b) = (variant(&guest, 1), variant(&guest, 2));
        assert_ne!(a.wasm, b.wasm);
        let engine = wasmtime::Engine::default();
        wasmtime::Module::validate(&engine, &a.wasm).unwrap();
    }
}
