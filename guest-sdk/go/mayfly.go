// Package mayfly is the SDK for Go: one file, without dependencies. What each import does is in docs/abi.md.
//
// A function is what init hands to [Handle]; the module is built as a reactor:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags=-s -o hello.wasm
//
// Package-level variables and init functions run anew for each request: a snapshot would give all instances one state of
// math/rand and one seed of their maps, and Go has no way to draw them again. Standard output and error are the log.
package mayfly

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unsafe"
)

//go:wasmimport mayfly_http_v1 request_head
func requestHead(to unsafe.Pointer, cap uint32) int32

//go:wasmimport mayfly_http_v1 request_body_read
func requestBodyRead(to unsafe.Pointer, cap uint32) int32

//go:wasmimport mayfly_http_v1 response_start
func responseStart(head unsafe.Pointer, headLen uint32, body unsafe.Pointer, len uint32) int32

//go:wasmimport mayfly_http_v1 response_write
func responseWrite(from unsafe.Pointer, len uint32) int32

//go:wasmimport mayfly_http_v1 mark
func mark(id int32)

// ErrClosed says that the client is gone. Return it: it is no failure.
var ErrClosed = errors.New("the client is gone")

// ErrBody says that the request's body broke off.
var ErrBody = errors.New("the request's body broke off")

// Header has the fields of a head in their order, names in lower case.
type Header [][2]string

// Get is the first value of a name, or empty.
func (h Header) Get(name string) string {
	for _, field := range h {
		if strings.EqualFold(field[0], name) {
			return field[1]
		}
	}
	return ""
}

// Add appends a field.
func (h *Header) Add(name, value string) {
	*h = append(*h, [2]string{strings.ToLower(name), value})
}

// Request is a request, and what the host knows beyond it.
type Request struct {
	Method, Path, Query                       string
	Header                                    Header
	Body                                      io.Reader
	Base, Scheme, Authority, Remote, RequestID string
	// Version is 10, 11 or 20.
	Version int
}

// Text is the whole body, if it has at most so many bytes.
func (r *Request) Text(most int64) (string, error) {
	bytes, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	if int64(len(bytes)) > most {
		return "", &Error{413, fmt.Sprintf("the body is longer than %d bytes", most)}
	}
	return string(bytes), err
}

// Response is a head, and a body that is ready, or a Stream that is written once the head is on its way.
type Response struct {
	Status int
	Header Header
	Body   []byte
	Stream func(out io.Writer) error
}

// Text is a response of text.
func Text(text string) *Response {
	return &Response{Status: 200, Header: Header{{"content-type", "text/plain; charset=utf-8"}}, Body: []byte(text)}
}

// JSON is a response of JSON, as encoding/json makes it; this package does without that, which is half of a module.
func JSON(body []byte) *Response {
	return &Response{Status: 200, Header: Header{{"content-type", "application/json"}}, Body: body}
}

// Error is an error that the client sees, as RFC 9457 has it. Every other is logged, and the client gets a 502.
type Error struct {
	Status int
	Detail string
}

func (e *Error) Error() string { return fmt.Sprintf("%d: %s", e.Status, e.Detail) }

func (e *Error) response() *Response {
	detail := strings.Map(func(c rune) rune {
		if c < ' ' {
			return ' '
		}
		return c
	}, e.Detail)
	detail = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(detail)
	body := fmt.Sprintf(`{"status":%d,"detail":"%s"}`, e.Status, detail)
	return &Response{e.Status, Header{{"content-type", "application/problem+json"}}, []byte(body), nil}
}

var handler func(*Request) (*Response, error)

// Handle makes a function what this module does with a request. Call it in an init function.
func Handle(handle func(*Request) (*Response, error)) { handler = handle }

// Mark notes the time since the request's arrival under an id, 0 to 7, for Server-Timing.
func Mark(id int32) { mark(id) }

//go:wasmexport mayfly_abi_1
func abi() {}

//go:wasmexport mayfly_handle
func handle() {
	response, err := handler(receive())
	var shown *Error
	if errors.As(err, &shown) {
		response, err = shown.response(), nil
	}
	if err == nil {
		err = response.send()
	}
	if err != nil && !errors.Is(err, ErrClosed) {
		fmt.Fprintln(os.Stderr, "the function failed:", err)
		os.Exit(1)
	}
}

func pointer(bytes []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(bytes)) }

func receive() *Request {
	frame := make([]byte, 2048)
	length := requestHead(pointer(frame), uint32(len(frame)))
	if int(length) > len(frame) {
		frame = make([]byte, length)
		requestHead(pointer(frame), uint32(len(frame)))
	}
	next := func() string {
		length := int(binary.LittleEndian.Uint16(frame))
		text := string(frame[2 : 2+length])
		frame = frame[2+length:]
		return text
	}
	r := &Request{Body: body{}}
	var target string
	for _, field := range []*string{&r.Method, &target, &r.Base, &r.Scheme, &r.Authority, &r.Remote, &r.RequestID} {
		*field = next()
	}
	r.Path, r.Query, _ = strings.Cut(target, "?")
	r.Version = int(frame[0])
	count := int(binary.LittleEndian.Uint16(frame[1:]))
	frame = frame[3:]
	for range count {
		name := next()
		r.Header.Add(name, next())
	}
	return r
}

func (r *Response) send() error {
	head := binary.LittleEndian.AppendUint16(nil, uint16(r.Status))
	head = binary.LittleEndian.AppendUint16(head, uint16(len(r.Header)))
	for _, field := range r.Header {
		for _, text := range field {
			head = binary.LittleEndian.AppendUint16(head, uint16(len(text)))
			head = append(head, text...)
		}
	}
	answer := responseStart(pointer(head), uint32(len(head)), pointer(r.Body), uint32(len(r.Body)))
	if err := sent(answer); err != nil || r.Stream == nil {
		return err
	}
	return r.Stream(writer{})
}

func sent(answer int32) error {
	switch answer {
	case 0:
		return nil
	case -2:
		return ErrClosed
	}
	return fmt.Errorf("the host refused the response (%d)", answer)
}

type body struct{}

func (body) Read(to []byte) (int, error) {
	n := requestBodyRead(pointer(to), uint32(len(to)))
	switch {
	case n < 0:
		return 0, ErrBody
	case n == 0 && len(to) > 0:
		return 0, io.EOF
	}
	return int(n), nil
}

type writer struct{}

func (writer) Write(from []byte) (int, error) {
	if err := sent(responseWrite(pointer(from), uint32(len(from)))); err != nil {
		return 0, err
	}
	return len(from), nil
}
