use super::types;

/// Each: TypeScript, and what is left of it with runs of spaces as one.
fn squeezed(text: &str) -> String {
    let stripped = types(text).unwrap_or_else(|why| panic!("{text}: {} at {}", why.why, why.at));
    assert_eq!(stripped.lines().count(), text.lines().count(), "{text}");
    let lines = stripped.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// TypeScript, and what is left of it.
const ERASED: &[(&str, &str)] = &[
    ("const a: number = 1;", "const a = 1;"),
    (
        "let a: { b?: string; c(): void }[] | null = null, d!: Map<string, Array<Set<number>>>;",
        "let a = null, d ;",
    ),
    (
        "function f<T extends object = {}>(this: Window, a?: T, ...b: string[]): asserts a is T {}",
        "function f ( a , ...b ) {}",
    ),
    ("const f = <T,>(a: T): T => a", "const f = (a ) => a"),
    (
        "const f = async (a: number): Promise<void> => { await a; }",
        "const f = async (a ) => { await a; }",
    ),
    ("interface A { b: string }\nf()", ";\nf()"),
    ("type A<T> = T extends (infer U)[] ? U : never;\n(1)", ";\n(1)"),
    ("export type A = 'x' | 'y'\nexport interface B extends C<D>, E {}", ";\n;"),
    ("export default interface A {}", ";"),
    (
        "const x = a as unknown as Record<string, number>, y = b!.c![0]!, z = { q: 1 } satisfies Q",
        "const x = a , y = b .c [0] , z = { q: 1 }",
    ),
    ("const x = y as const\n[1].map(f)", "const x = y ;\n[1].map(f)"),
    (
        "a < b && c > d; f<T>(x); new Map<string, number>(); g<A, B>`x`; a<b>(c)",
        "a < b && c > d; f (x); new Map (); g `x`; a (c)",
    ),
    ("if (a < b || c >= (d >> 2)) x >>>= 3", "if (a < b || c >= (d >> 2)) x >>>= 3"),
    (
        "const a = b ? (c) : d => e; const g = b ? (c: number): number => c : 1",
        "const a = b ? (c) : d => e; const g = b ? (c ) => c : 1",
    ),
    ("const a = b ? (c, d) : e", "const a = b ? (c, d) : e"),
    ("abstract class A<T> extends B<T> implements C, D { }", "class A extends B { }"),
    (
        "class A { private readonly a: string = 'x'; static b?: number; declare c: string; [key: string]: unknown; d!: E;\n\
             constructor(x: number) { super(); } abstract f(): void; get g(): number { return 1 } async *h<T>(): X {} #i: number = 1; g(): void }",
        "class A { a = 'x'; static b ; ; ; d ;\nconstructor(x ) { super(); } ; get g() { return 1 } async *h () {} #i = 1; ; }",
    ),
    ("class A { a: string\n['b'] = 1 }", "class A { a;\n['b'] = 1 }"),
    ("function f(a: string): void;\nfunction f(a: any) { }", ";\nfunction f(a ) { }"),
    (
        "export function f(a: string): void;\nexport function f(a: any) { }",
        ";\nexport function f(a ) { }",
    ),
    (
        "declare const a: string; declare module 'x' { export = y }\ndeclare global { interface Window {} }",
        "; ;\n;",
    ),
    ("export declare function f(): void; export abstract class B {}", "; export class B {}"),
    (
        "import type { A } from './a'; import { type B, C } from './b'; C()",
        "; import { C } from './b'; C()",
    ),
    (
        "import { A, b } from './a'; import D, { E } from './d'; import F from './f'; import './g'; const x: A & D = b(); new E<F>()",
        "import { b } from './a'; import { E } from './d'; ; import './g'; const x = b(); new E ()",
    ),
    (
        "export type { A } from './a'; export { type B, c } from './b'; export * as d from './d'",
        "; export { c } from './b'; export * as d from './d'",
    ),
    ("const f = (a: number):\n  Promise<string> => x", "const f = (a\n) => x"),
    (
        "switch (a as B) { case (b): c(); break; case d ? e : f: g(); default: h() }",
        "switch (a ) { case (b): c(); break; case d ? e : f: g(); default: h() }",
    ),
    (
        "for (const [k, v] of Object.entries(x) as [string, number][]) y(k); for (let i: number = 0; i < 9; i++) z()",
        "for (const [k, v] of Object.entries(x) ) y(k); for (let i = 0; i < 9; i++) z()",
    ),
    (
        "try { a() } catch (e: unknown) { b(e) } finally { c() }",
        "try { a() } catch (e ) { b(e) } finally { c() }",
    ),
    (
        "const { a, b: { c } = {}, ...d }: X = y, [e = 1, , f]: Z = g",
        "const { a, b: { c } = {}, ...d } = y, [e = 1, , f] = g",
    ),
    (
        "const o = { f<T>(a: T): T { return a }, async g(): Promise<void> {}, get h(): number { return 1 }, type: 1, [i as string]: j }",
        "const o = { f (a ) { return a }, async g() {}, get h() { return 1 }, type: 1, [i ]: j }",
    ),
    (
        "label: for (;;) { break label }\ntype\nx = 1; let as = 1, type = as",
        "label: for (;;) { break label }\ntype\nx = 1; let as = 1, type = as",
    ),
    (
        "const a = `x${b as string}y${c!}z`, r = /a\\/[/]b/g.test(d as string)",
        "const a = `x${b }y${c }z`, r = /a\\/[/]b/g.test(d )",
    ),
    (
        "type F = abstract new (...a: any[]) => object; type M = { readonly [K in keyof T]?: T[K] }; type P = (a: string) => a is 'x'; type T = `a${string}`\nf()",
        "; ; ; ;\nf()",
    ),
    (
        "let x: typeof import('./a').b; let y: unique symbol; let z: -1 | A['b'][number]",
        "let x ; let y ; let z",
    ),
    (
        "export default { async fetch(request: Request, env: Env): Promise<Response> { return new Response('é') } } satisfies ExportedHandler<Env>",
        "export default { async fetch(request , env ) { return new Response('é') } }",
    ),
];

#[test]
fn what_can_be_erased_is_and_all_else_stays() {
    for (text, expected) in ERASED {
        assert_eq!(squeezed(text), *expected, "{text}");
    }
}

#[test]
fn every_place_stays_where_it_was() {
    let text = "const f = (ä: Map<string, 'ü'>): void => {\n  throw new Error(`é`) as unknown\n}";
    let stripped = types(text).unwrap();
    for (before, after) in text.lines().zip(stripped.lines()) {
        assert_eq!(before.chars().count(), after.chars().count());
    }
}

#[test]
fn what_is_code_is_refused_by_name() {
    for (text, expected) in [
        ("enum A { B }", "an enum is code"),
        ("export const enum A { B }", "an enum is code"),
        ("namespace A { export const b = 1 }", "a namespace is code"),
        ("class A { constructor(private b: string) {} }", "also a property"),
        ("import a = require('b')", "`import x = ...`"),
        ("export = a", "`export =`"),
        ("const a = <B>c", "cast as <T>x"),
        ("@dec class A {}", "decorators"),
        ("class A { @dec b() {} }", "decorators"),
        ("const a = (", "never closed"),
        ("const a = 'x", "no end"),
        ("const a: = 1", "a type was expected"),
        ("f(1, )) ]", "closes nothing"),
        ("f(1 ]", "another kind"),
        ("const a = ;", "an expression was expected"),
    ] {
        let why = types(text).expect_err(text).why;
        assert!(why.contains(expected), "{text}: {why}");
    }
    let deep = format!("const a = {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(types(&deep).unwrap_err().why.contains("nested too deeply"));
}
