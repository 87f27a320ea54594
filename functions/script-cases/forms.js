// FormData, Blob and File; multipart and urlencoded bodies.

import { rejects, same, throws } from "./check.js";

const form = (type, text) => new Response(text, { headers: { "content-type": type } }).formData();

export default {
  "append, set, get": () => {
    const data = new FormData();
    data.append("a", "1");
    data.append("a", 2);
    data.append("b", "3");
    data.set("a", "4");
    same([data.getAll("a"), data.get("b"), data.get("c"), data.has("a"), [...data.keys()]], [["4"], "3", null, true, ["a", "b"]]);
  },
  "a blob becomes a file": () => {
    const data = new FormData();
    data.append("a", new Blob(["x"], { type: "t/x" }), "n.txt");
    data.append("b", new Blob(["x"]));
    const [a, b] = [data.get("a"), data.get("b")];
    same([a instanceof File, a.name, a.type, b.name], [true, "n.txt", "t/x", "blob"]);
  },
  "urlencoded": async () => same([...await form("application/x-www-form-urlencoded", "a=1+2&b=%C3%A9&a=")], [["a", "1 2"], ["b", "é"], ["a", ""]]),
  "multipart": async () => {
    const text = '--X\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n2\r\n--X\r\nContent-Disposition: form-data; name="f"; filename="n%22.txt"\r\nContent-Type: t/x\r\n\r\nfile\r\n--X--\r\n';
    const data = await form("multipart/form-data; boundary=X", text);
    const file = data.get("f");
    same([data.get("a"), file.name, file.type, await file.text()], ["1\r\n2", 'n".txt', "t/x", "file"]);
  },
  "multipart there and back": async () => {
    const data = new FormData();
    data.append('n"1', "line\nline");
    data.append("f", new File([new Uint8Array([0, 13, 10, 45, 45])], "é.bin", { type: "a/b" }));
    const back = await new Response(data).formData();
    const file = back.get("f");
    same([back.get('n"1'), file.name, file.type, [...await file.bytes?.() ?? new Uint8Array(await file.arrayBuffer())]],
      ["line\r\nline", "é.bin", "a/b", [0, 13, 10, 45, 45]]);
  },
  "multipart that is cut off": () => rejects(form("multipart/form-data; boundary=X", "--X\r\nContent-Disposition: form-data; name=a"), "TypeError"),
  "no form": () => rejects(form("text/plain", "a"), "TypeError"),
  "blob of parts": async () => {
    const blob = new Blob(["a", new Uint8Array([98]), new Blob(["c"]), new Uint8Array([100]).buffer], { type: "A/B" });
    same([blob.size, blob.type, await blob.text()], [4, "a/b", "abcd"]);
  },
  "slices": async () => {
    const blob = new Blob(["abcdef"]);
    const texts = await Promise.all([blob.slice(1, 3), blob.slice(-2), blob.slice(4, 2), blob.slice(2, -1, "x/y")].map((b) => b.text()));
    same([texts, blob.slice(0, 1, "X/Y").type], [["bc", "ef", "", "cde"], "x/y"]);
  },
  "a blob's stream": async () => same(await new Response(new Blob(["abc"]).stream()).text(), "abc"),
  "a bad type": () => same(new Blob([], { type: "é" }).type, ""),
  "file": () => {
    const file = new File(["a"], "n", { lastModified: 5 });
    same([file.name, file.size, file.lastModified, file instanceof Blob], ["n", 1, 5, true]);
  },
  "a blob of what is no list": () => throws(() => new Blob("a"), "TypeError"),
};
