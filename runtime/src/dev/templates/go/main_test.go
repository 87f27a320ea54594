package main

import (
	"errors"
	"testing"

	"{{name}}/mayfly"
)

func TestGreetsByName(t *testing.T) {
	if got := greeting("name=Ada"); got != "Hello Ada, from Go\n" {
		t.Error(got)
	}
}

func TestSaysWhatItDoesNotHave(t *testing.T) {
	_, err := handle(&mayfly.Request{Method: "GET", Path: "/nothing"})
	var shown *mayfly.Error
	if !errors.As(err, &shown) || shown.Status != 404 {
		t.Error(err)
	}
}
