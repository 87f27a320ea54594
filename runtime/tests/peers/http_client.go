// Go's net/http as a client of a node. Each line of stdin is a job, each line of stdout what became of it, in JSON:
// peers_clients.py has the fields.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type job struct {
	URL      string `json:"url"`
	File     string `json:"file"`
	Requests int    `json:"requests"`
	Clients  int    `json:"clients"`
	// "h1" with a length, "chunked" without one, "h2" over cleartext.
	Kind string `json:"kind"`
}

type result struct {
	// How many answers there were of each kind: "200 27" is a status and the bytes of a whole body.
	Answers     map[string]int `json:"answers"`
	Connections int64          `json:"connections"`
}

// A reader whose length net/http cannot know.
type unsized struct{ io.Reader }

func main() {
	lines := json.NewDecoder(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		var next job
		if err := lines.Decode(&next); err != nil {
			return
		}
		out.Encode(run(next))
	}
}

func run(job job) result {
	body, err := os.ReadFile(job.File)
	if err != nil {
		panic(err)
	}
	done := result{Answers: map[string]int{}}
	var dialer net.Dialer
	transport := &http.Transport{
		MaxIdleConnsPerHost: job.Clients,
		DisableCompression:  true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			atomic.AddInt64(&done.Connections, 1)
			return dialer.DialContext(ctx, network, address)
		},
	}
	defer transport.CloseIdleConnections()
	if job.Kind == "h2" {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	var left atomic.Int64
	left.Store(int64(job.Requests))
	var lock sync.Mutex
	var all sync.WaitGroup
	for range job.Clients {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				answer := once(client, job, body)
				lock.Lock()
				done.Answers[answer]++
				lock.Unlock()
			}
		})
	}
	all.Wait()
	return done
}

func once(client *http.Client, job job, body []byte) string {
	var reader io.Reader = bytes.NewReader(body)
	if job.Kind == "chunked" {
		reader = unsized{reader}
	}
	response, err := client.Post(job.URL, "application/octet-stream", reader)
	if err != nil {
		return "lost: " + cause(err)
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Sprintf("lost: %d, then %s", response.StatusCode, cause(err))
	}
	return fmt.Sprintf("%d %d", response.StatusCode, len(got))
}

// The words of an error without the addresses, which differ from one connection to the next.
func cause(err error) string {
	words := err.Error()
	return strings.TrimSpace(words[strings.LastIndex(words, ": ")+1:])
}
