//! Native arithmetic on guest memory: the imports of `mayfly_kernels_v1`.
//!
//! The arithmetic itself is `mayfly-kernels`, ordinary Rust on slices; here are the CPU's vectors for it, the choice
//! between them, and the way from a descriptor in guest memory to checked slices. `unsafe` is used for one thing: to
//! call vector instructions once the CPU was asked whether it has them. A call keeps no state, allocates nothing and
//! does about a millisecond of work, three at most; whatever is wrong with a descriptor is a trap.

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub mod memory;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

use mayfly_abi::MODULE_KERNELS as MODULE;
use mayfly_kernels::simd::Scalar;
use mayfly_kernels::wire::{self, GEMM_WORDS, MAP_WORDS, PLANE_WORDS, WINOGRAD_WORDS};
use mayfly_kernels::{Gemm, Map, Plane, Refused, Winograd};
use wasmtime::{Caller, Extern, Linker, Memory};

/// What `version` answers when kernels are on: revisions of v1 that only add imports raise it.
const VERSION: i32 = 2;

/// The vectors that kernels use on this machine.
#[derive(Debug, Clone, Copy)]
pub enum Cpu {
    Scalar,
    #[cfg(target_arch = "aarch64")]
    Neon(aarch64::Neon),
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Avx512),
}

impl Cpu {
    /// The best that this machine has, asked once.
    pub fn get() -> Cpu {
        static CPU: OnceLock<Cpu> = OnceLock::new();
        *CPU.get_or_init(Cpu::detect)
    }

    #[cfg(target_arch = "x86_64")]
    fn detect() -> Cpu {
        if let Some(avx512) = x86::Avx512::detect() {
            return Cpu::Avx512(avx512);
        }
        x86::Avx2::detect().map_or(Cpu::Scalar, Cpu::Avx2)
    }

    #[cfg(target_arch = "aarch64")]
    fn detect() -> Cpu {
        Cpu::Neon(aarch64::Neon)
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn detect() -> Cpu {
        Cpu::Scalar
    }

    fn gemm(self, call: &mut Gemm<'_>) {
        match self {
            Cpu::Scalar => call.run(Scalar),
            #[cfg(target_arch = "aarch64")]
            Cpu::Neon(neon) => call.run(neon),
            #[cfg(target_arch = "x86_64")]
            Cpu::Avx2(avx2) => avx2.gemm(call),
            #[cfg(target_arch = "x86_64")]
            Cpu::Avx512(avx512) => avx512.gemm(call),
        }
    }

    fn winograd(self, call: &mut Winograd<'_>) {
        match self {
            Cpu::Scalar => call.run(Scalar),
            #[cfg(target_arch = "aarch64")]
            Cpu::Neon(neon) => call.run(neon),
            #[cfg(target_arch = "x86_64")]
            Cpu::Avx2(avx2) => avx2.winograd(call),
            #[cfg(target_arch = "x86_64")]
            Cpu::Avx512(avx512) => avx512.winograd(call),
        }
    }

    fn plane(self, call: &mut Plane<'_>) {
        match self {
            Cpu::Scalar => call.run(Scalar),
            #[cfg(target_arch = "aarch64")]
            Cpu::Neon(neon) => call.run(neon),
            #[cfg(target_arch = "x86_64")]
            Cpu::Avx2(avx2) => avx2.plane(call),
            #[cfg(target_arch = "x86_64")]
            Cpu::Avx512(avx512) => avx512.plane(call),
        }
    }

    fn map(self, call: &mut Map<'_>) {
        match self {
            Cpu::Scalar => call.run(Scalar),
            #[cfg(target_arch = "aarch64")]
            Cpu::Neon(neon) => call.run(neon),
            #[cfg(target_arch = "x86_64")]
            Cpu::Avx2(avx2) => avx2.map(call),
            #[cfg(target_arch = "x86_64")]
            Cpu::Avx512(avx512) => avx512.map(call),
        }
    }
}

/// The words of a descriptor at `address`.
fn words<const N: usize>(memory: &[u8], address: u32) -> Result<[u32; N], Refused> {
    let bytes = memory.get(address as usize..).and_then(|m| m.get(..N * 4));
    let bytes = bytes.ok_or(Refused("the descriptor leaves memory"))?;
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    Ok(words)
}

/// Runs a matrix product on guest memory.
pub fn gemm(cpu: Cpu, memory: &mut [u8], address: u32) -> Result<(), Refused> {
    let words = words::<GEMM_WORDS>(memory, address)?;
    let (writes, shared) = memory::split(memory, wire::writes(&words))?;
    let mut call = Gemm::decode(&words, writes, &shared)?;
    call.check()?;
    cpu.gemm(&mut call);
    Ok(())
}

/// Runs a Winograd convolution on guest memory.
pub fn winograd(cpu: Cpu, memory: &mut [u8], address: u32) -> Result<(), Refused> {
    let words = words::<WINOGRAD_WORDS>(memory, address)?;
    let (writes, shared) = memory::split(memory, wire::writes(&words))?;
    let mut call = Winograd::decode(&words, writes, &shared)?;
    call.check()?;
    cpu.winograd(&mut call);
    Ok(())
}

/// Runs a depthwise convolution or a pool on guest memory.
pub fn plane(cpu: Cpu, memory: &mut [u8], address: u32) -> Result<(), Refused> {
    let words = words::<PLANE_WORDS>(memory, address)?;
    let (writes, shared) = memory::split(memory, wire::writes(&words))?;
    let mut call = Plane::decode(&words, writes, &shared)?;
    call.check()?;
    cpu.plane(&mut call);
    Ok(())
}

/// Runs a program over elements of guest memory.
pub fn map(cpu: Cpu, memory: &mut [u8], address: u32) -> Result<(), Refused> {
    let words = words::<MAP_WORDS>(memory, address)?;
    let (writes, shared) = memory::split(memory, wire::writes(&words))?;
    let mut call = Map::decode(&words, writes, &shared)?;
    call.check()?;
    cpu.map(&mut call);
    Ok(())
}

/// Links the imports of `mayfly_kernels_v1`. With `enabled` off, `version` answers 0 and the rest traps.
///
/// `memory` gives the guest's memory if the store's data knows it, which saves a look-up by name at each call.
///
/// # Errors
/// Only if a name is defined twice.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    enabled: bool,
    memory: impl Fn(&mut T) -> Option<Memory> + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    let cpu = Cpu::get();
    linker.func_wrap(MODULE, "version", move || if enabled { VERSION } else { 0 })?;
    let kernels: [(&str, Kernel); 4] =
        [("gemm", gemm), ("winograd", winograd), ("plane", plane), ("map", map)];
    for (name, kernel) in kernels {
        let call = move |mut caller: Caller<'_, T>, address: u32| -> wasmtime::Result<()> {
            if !enabled {
                wasmtime::bail!("kernels are switched off: {MODULE}.version answers 0");
            }
            let found = memory(caller.data_mut());
            let found = found.or_else(|| caller.get_export("memory").and_then(Extern::into_memory));
            let Some(found) = found else { wasmtime::bail!("the module exports no memory") };
            kernel(cpu, found.data_mut(&mut caller), address)?;
            Ok(())
        };
        linker.func_wrap(MODULE, name, call)?;
    }
    Ok(())
}

type Kernel = fn(Cpu, &mut [u8], u32) -> Result<(), Refused>;
