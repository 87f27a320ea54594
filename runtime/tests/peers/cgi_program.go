// A program for Go's net/http/cgi: it says what it found of its request. Built for WASI and for the machine itself, so that
// a server of others can run it too.
package main

import (
	"encoding/json"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/cgi"
)

func main() {
	err := cgi.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{
			"method": r.Method, "read": len(body), "crc": crc32.ChecksumIEEE(body),
			"path": r.URL.Path, "query": r.URL.RawQuery, "uri": r.URL.RequestURI(),
		})
	}))
	if err != nil {
		panic(err)
	}
}
