package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A line of a container's output.
type line struct {
	at     time.Time
	stream string
	text   []byte
}

// fanout keeps a container's output as lines, and passes it on to whoever is attached.
type fanout struct {
	mutex   sync.Mutex
	lines   []line
	partial map[string][]byte
	joined  map[int]map[string]io.Writer
	next    int
	closed  bool
	changed chan struct{}
}

type stream struct {
	out  *fanout
	name string
}

func (f *fanout) stream(name string) io.Writer { return stream{f, name} }

func (f *fanout) Write(text []byte) (int, error) { return f.stream("stdout").Write(text) }

func (s stream) Write(text []byte) (int, error) {
	f := s.out
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for _, writers := range f.joined {
		if w := writers[s.name]; w != nil {
			w.Write(text)
		}
	}
	if f.partial == nil {
		f.partial = map[string][]byte{}
	}
	rest := append(f.partial[s.name], text...)
	for {
		head, tail, found := bytes.Cut(rest, []byte("\n"))
		if !found {
			break
		}
		f.lines = append(f.lines, line{time.Now(), s.name, bytes.Clone(head)})
		rest = tail
	}
	f.partial[s.name] = bytes.Clone(rest)
	f.wake()
	return len(text), nil
}

// wake tells those who follow; the mutex is held.
func (f *fanout) wake() {
	if f.changed != nil {
		close(f.changed)
	}
	f.changed = make(chan struct{})
}

func (f *fanout) close() {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for name, rest := range f.partial {
		if len(rest) > 0 {
			f.lines = append(f.lines, line{time.Now(), name, rest})
		}
	}
	f.closed = true
	f.wake()
}

func (f *fanout) join(stdout, stderr io.Writer) func() {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	writers := map[string]io.Writer{}
	if stdout != nil {
		writers["stdout"] = stdout
	}
	if stderr != nil {
		writers["stderr"] = stderr
	}
	// What was written before somebody could attach is not lost to them, so that a quick command's
	// output is the same every time.
	for _, line := range f.lines {
		if w := writers[line.stream]; w != nil {
			w.Write(append(bytes.Clone(line.text), '\n'))
		}
	}
	for name, rest := range f.partial {
		if w := writers[name]; w != nil && len(rest) > 0 {
			w.Write(rest)
		}
	}
	if f.joined == nil {
		f.joined = map[int]map[string]io.Writer{}
	}
	key := f.next
	f.next++
	f.joined[key] = writers
	return func() {
		f.mutex.Lock()
		defer f.mutex.Unlock()
		delete(f.joined, key)
	}
}

// from gives the lines from an index on, and what to wait for if there are no more.
func (f *fanout) from(index int) ([]line, bool, <-chan struct{}) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.lines[min(index, len(f.lines)):], f.closed, f.changed
}

// logs answers with a container's output, as the options of a log request say.
func (p *pods) logs(w http.ResponseWriter, r *http.Request) {
	m := p.main(podOf(r), r.PathValue("container"))
	if m == nil {
		http.Error(w, "container "+strconv.Quote(r.PathValue("container"))+" not found", http.StatusNotFound)
		return
	}
	query := r.URL.Query()
	flag := func(name string) bool { return query.Get(name) == "true" || query.Get(name) == "1" }
	number := func(name string) (int, bool) {
		n, err := strconv.Atoi(query.Get(name))
		return n, err == nil
	}
	since := time.Time{}
	if seconds, ok := number("sinceSeconds"); ok {
		since = time.Now().Add(-time.Duration(seconds) * time.Second)
	}
	if at, err := time.Parse(time.RFC3339, query.Get("sinceTime")); err == nil {
		since = at
	}
	wanted := strings.ToLower(query.Get("stream"))
	lines, closed, changed := m.out.from(0)
	next := len(lines)
	if tail, ok := number("tailLines"); ok && tail < len(lines) {
		lines = lines[len(lines)-tail:]
	}
	limit, limited := number("limitBytes")
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	for {
		for _, line := range lines {
			if line.at.Before(since) || wanted != "" && wanted != "all" && wanted != line.stream {
				continue
			}
			text := string(line.text) + "\n"
			if flag("timestamps") {
				text = fmt.Sprintf("%s %s", line.at.UTC().Format("2006-01-02T15:04:05.000000000Z"), text)
			}
			if limited {
				text = text[:min(limit, len(text))]
				limit -= len(text)
			}
			if _, err := io.WriteString(w, text); err != nil {
				return
			}
		}
		w.(http.Flusher).Flush()
		if closed || !flag("follow") || limited && limit == 0 {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
		lines, closed, changed = m.out.from(next)
		next += len(lines)
	}
}
