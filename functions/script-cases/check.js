// What the cases say they expect.

export function same(actual, expected) {
  const [a, e] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== e) throw new Error(`${a}, where ${e} was expected`);
}

export function throws(call, name) {
  try {
    call();
  } catch (error) {
    if (error.name !== name) throw new Error(`${error.name}, where ${name} was expected`);
    return;
  }
  throw new Error(`nothing was thrown, where ${name} was expected`);
}

export async function rejects(promise, name) {
  let error;
  try {
    await promise;
  } catch (thrown) {
    error = thrown;
  }
  if (error === undefined) throw new Error(`it was not rejected, where ${name} was expected`);
  if (error.name !== name) throw new Error(`${error.name}, where ${name} was expected`);
}
