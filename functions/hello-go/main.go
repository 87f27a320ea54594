// The smallest function in Go: a WASI command that speaks CGI/1.1.
//
//	GOOS=wasip1 GOARCH=wasm go build -ldflags=-s -o hello-go.wasm
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	fmt.Print("Content-Type: text/plain; charset=utf-8\n\n")
	if os.Getenv("QUERY_STRING") != "stream" {
		fmt.Printf("Hello from Go, %s\n", os.Getenv("REMOTE_ADDR"))
		return
	}
	// What is written goes out at once: the client sees each line when it is there.
	for n := 1; n <= 3; n++ {
		fmt.Printf("line %d\n", n)
		time.Sleep(100 * time.Millisecond)
	}
}
