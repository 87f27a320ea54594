//! Native arithmetic on guest memory: the imports of `mayfly_kernels_v1`.
//!
//! The arithmetic itself is `mayfly-kernels`, ordinary Rust on slices; here are the CPU's vectors for it, the choice
//! between them, and the way from a descriptor in guest memory to checked slices. `unsafe` is used for one thing: to
//! call vector instructions once the CPU was asked whether it has them. A call keeps no state and is done in
//! pieces: after each millisecond of it limits are asked and others may run. Whatever is wrong with a descriptor is a
//! trap.

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub mod memory;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mayfly_abi::MODULE_KERNELS as MODULE;
use mayfly_kernels::simd::Scalar;
use mayfly_kernels::wire::{self, GEMM_WORDS, MAP_WORDS, PLANE_WORDS, WINOGRAD_WORDS};
use mayfly_kernels::{Gemm, Map, PIECE_MAX, Pieces, Plane, Refused, Winograd};
use wasmtime::{Caller, Linker, Memory};

use crate::imports::host::{Host, memory};
use crate::profile::Watch;

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

    /// Does a checked call all at once.
    pub fn run<C: Pieces>(self, call: &mut C) {
        self.go_on(call, &mut C::At::default(), &mut |_| false);
    }

    /// [`Pieces::go_on`] with this machine's vectors.
    pub fn go_on<C: Pieces>(
        self,
        call: &mut C,
        at: &mut C::At,
        stop: &mut impl FnMut(u64) -> bool,
    ) -> bool {
        match self {
            Cpu::Scalar => call.go_on(Scalar, at, stop),
            #[cfg(target_arch = "aarch64")]
            Cpu::Neon(neon) => call.go_on(neon, at, stop),
            #[cfg(target_arch = "x86_64")]
            Cpu::Avx2(avx2) => avx2.go_on(call, at, stop),
            #[cfg(target_arch = "x86_64")]
            Cpu::Avx512(avx512) => avx512.go_on(call, at, stop),
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

/// A matrix product on guest memory, checked.
fn gemm_at(memory: &mut [u8], address: u32) -> Result<Gemm<'_>, Refused> {
    let words = words::<GEMM_WORDS>(memory, address)?;
    let (writes, shared) = memory::split(memory, wire::writes(&words))?;
    let call = Gemm::decode(&words, writes, &shared)?;
    call.check().map(|()| call)
}

/// A Winograd convolution on guest memory, checked.
fn winograd_at(memory: &mut [u8], address: u32) -> Result<Winograd<'_>, Refused> {
    let words = words::<WINOGRAD_WORDS>(memory, address)?;
    let (writes, shared) = memory::split(memory, wire::writes(&words))?;
    let call = Winograd::decode(&words, writes, &shared)?;
    call.check().map(|()| call)
}

/// A depthwise convolution or a pool on guest memory, checked.
fn plane_at(memory: &mut [u8], address: u32) -> Result<Plane<'_>, Refused> {
    let words = words::<PLANE_WORDS>(memory, address)?;
    let (writes, shared) = memory::split(memory, wire::writes(&words))?;
    let call = Plane::decode(&words, writes, &shared)?;
    call.check().map(|()| call)
}

/// A program over elements of guest memory, checked.
fn map_at(memory: &mut [u8], address: u32) -> Result<Map<'_>, Refused> {
    let words = words::<MAP_WORDS>(memory, address)?;
    let (writes, shared) = memory::split(memory, wire::writes(&words))?;
    let call = Map::decode(&words, writes, &shared)?;
    call.check().map(|()| call)
}

/// Runs a kernel on guest memory all at once, with any of this machine's vectors.
pub type Kernel = fn(Cpu, &mut [u8], u32) -> Result<(), Refused>;

/// The four of them, for tests.
pub const KERNELS: [Kernel; 4] = [
    |cpu, memory, address| gemm_at(memory, address).map(|mut call| cpu.run(&mut call)),
    |cpu, memory, address| winograd_at(memory, address).map(|mut call| cpu.run(&mut call)),
    |cpu, memory, address| plane_at(memory, address).map(|mut call| cpu.run(&mut call)),
    |cpu, memory, address| map_at(memory, address).map(|mut call| cpu.run(&mut call)),
];

/// How long a call goes on before limits are asked.
const PAUSE: Duration = Duration::from_millis(1);

/// Cost of pieces between two looks at the clock: 8 us if all is in cache, and 1 ms if each element costs a page.
const LOOK: u64 = PIECE_MAX / 16;

/// Does a checked call. After each `PAUSE` of it `pause` may end it, or say that others run first.
pub async fn paced<C: Pieces>(
    cpu: Cpu,
    call: &mut C,
    pause: &mut (dyn FnMut() -> wasmtime::Result<bool> + Send),
) -> wasmtime::Result<()> {
    let mut at = C::At::default();
    loop {
        let (began, mut cost) = (Instant::now(), 0);
        let mut stop = |piece: u64| {
            cost += piece;
            cost >= LOOK && {
                cost = 0;
                began.elapsed() >= PAUSE
            }
        };
        if cpu.go_on(call, &mut at, &mut stop) {
            return Ok(());
        }
        if pause()? {
            tokio::task::yield_now().await;
        }
    }
}

/// Links the imports of `mayfly_kernels_v1`. With `enabled` off, `version` answers 0 and the rest traps.
///
/// `memory` gives the guest's memory if the store's data knows it, which saves a look-up by name at each call. `pause`
/// is asked after each millisecond of a call: see [`paced`].
///
/// # Errors
/// Only if a name is defined twice.
pub fn add_to_linker<T: Host>(
    linker: &mut Linker<T>,
    enabled: bool,
    pause: impl Fn(&mut T) -> wasmtime::Result<bool> + Copy + Send + Sync + 'static,
    watch: impl Watch<T>,
) -> wasmtime::Result<()> {
    let cpu = Cpu::get();
    linker.func_wrap(MODULE, "version", move || if enabled { VERSION } else { 0 })?;
    macro_rules! link {
        ($($name:literal: $open:ident)*) => {$(
            linker.func_wrap_async(MODULE, $name, move |mut caller, (address,): (u32,)| {
                let span = watch.begin(&caller, MODULE, $name);
                Box::new(async move {
                    let _span = span;
                    let found = find(&mut caller, enabled)?;
                    let (bytes, data) = found.data_and_store_mut(&mut caller);
                    paced(cpu, &mut $open(bytes, address)?, &mut || pause(data)).await
                })
            })?;
        )*};
    }
    link!("gemm": gemm_at "winograd": winograd_at "plane": plane_at "map": map_at);
    Ok(())
}

fn find<T: Host>(caller: &mut Caller<'_, T>, enabled: bool) -> wasmtime::Result<Memory> {
    if !enabled {
        wasmtime::bail!("kernels are switched off: {MODULE}.version answers 0");
    }
    memory(caller)
}
