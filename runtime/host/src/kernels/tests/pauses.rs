//! What happens in the middle of a call.

use mayfly_kernels::Map;
use mayfly_kernels::map::{self, Arg, Input, Op, Program, Step};

use crate::kernels::{Cpu, paced};

/// The error function of four million elements by scalars: tens of milliseconds on any machine.
fn long<R>(work: impl FnOnce(&mut Map<'_>) -> R) -> (R, Vec<f32>) {
    let (mut output, mut scratch) = (vec![1.0; 1 << 22], vec![0.0; map::SCRATCH]);
    let mut program = Program::default();
    program.push(Step { op: Op::Erf, args: [Arg::Input(0); 3], to: 0 }).unwrap();
    let inputs = [Input { data: None, repeat: 1, period: 1 }; map::INPUTS];
    let (out, scratch) = (&mut output[..], &mut scratch[..]);
    let mut call = Map { program, inputs, given: 1, first: 0, output: out, scratch };
    call.check().unwrap();
    let result = work(&mut call);
    (result, output)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn others_run_in_the_middle_of_a_long_call_and_it_goes_on() {
    let (others, output) = long(|call| {
        run(async {
            let mut others = 0;
            let mut pause = || Ok(true);
            let call = paced(Cpu::Scalar, call, &mut pause);
            tokio::pin!(call);
            // Whoever is polled beside it gets a turn with each pause.
            loop {
                tokio::select! {
                    biased;
                    done = &mut call => break done.map(|()| others),
                    () = tokio::task::yield_now() => others += 1,
                }
            }
        })
    });
    assert!(others.unwrap() > 0);
    assert!(output.iter().all(|v| (v - 0.842_700_8).abs() < 1e-6));
}

#[test]
fn a_long_call_ends_in_its_middle_when_the_limit_says_so() {
    let (result, output) =
        long(|call| run(paced(Cpu::Scalar, call, &mut || wasmtime::bail!("over"))));
    assert_eq!(result.unwrap_err().to_string(), "over");
    assert!(output.first() < output.last(), "{:?}", output.last());
}
