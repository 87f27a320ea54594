// From the HTML standard: atob and btoa.

import { same, throws } from "./check.js";

const both = (text, code) => () => same([btoa(text), atob(code)], [code, text]);
const bad = (code) => () => throws(() => atob(code), "InvalidCharacterError");

export default {
  "nothing": both("", ""),
  "one": both("a", "YQ=="),
  "two": both("ab", "YWI="),
  "three": both("abc", "YWJj"),
  "all bits": both("\xff\xfe\xfd", "//79"),
  "a zero": both("\0", "AA=="),
  "spaces go": () => same(atob(" Y W\tI\n=\f\r"), "ab"),
  "padding may be missing": () => same([atob("YQ"), atob("YWI")], ["a", "ab"]),
  "bits that are left over": () => same(atob("YR=="), "a"),
  "one character": bad("Y"),
  "five characters": bad("YWJjY"),
  "too much padding": bad("YQ==="),
  "padding within": bad("Y=Q="),
  "the other alphabet": bad("_-8="),
  "a character that is no byte": () => throws(() => btoa("€"), "InvalidCharacterError"),
  "no text": () => same([btoa(null), btoa(12)], ["bnVsbA==", "MTI="]),
  "the code of the error": () => {
    try {
      atob("*");
    } catch (error) {
      same([error instanceof DOMException, error.code], [true, 5]);
    }
  },
};
