package main

import (
	"fmt"
	"io"
	"strings"

	"{{name}}/mayfly"
)

func init() { mayfly.Handle(handle) }

func handle(request *mayfly.Request) (*mayfly.Response, error) {
	switch {
	case request.Path == "/" && request.Method == "POST":
		// A request's body as the response's: it goes out as it comes in.
		echo := func(out io.Writer) error {
			_, err := io.Copy(out, request.Body)
			return err
		}
		return &mayfly.Response{Status: 200, Stream: echo}, nil
	case request.Path == "/":
		return mayfly.Text(greeting(request.Query)), nil
	case request.Path == "/lines":
		response := mayfly.Text("")
		response.Stream = func(out io.Writer) error {
			for n := 1; n <= 3; n++ {
				if _, err := fmt.Fprintf(out, "line %d\n", n); err != nil {
					return err
				}
			}
			return nil
		}
		return response, nil
	}
	return nil, &mayfly.Error{Status: 404, Detail: "no such page"}
}

func greeting(query string) string {
	if name, is := strings.CutPrefix(query, "name="); is {
		return fmt.Sprintf("Hello %s, from Go\n", name)
	}
	return "Hello from Go\n"
}

// A reactor has no main of its own; the language wants one.
func main() {}
