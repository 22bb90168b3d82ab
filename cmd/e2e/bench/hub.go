package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/edge/link"
)

// A hub is bin/sedge-hub, with TLS and an authority of its own.
type hub struct {
	*child
	program string
	dir     string // of its data
	logs    string // folder
	api     string // host:port
	token   string
	roots   *x509.CertPool
	client  *client.Client
	http    *http.Client
}

func startHub(ctx context.Context, dir, program string) (*hub, error) {
	data, err := os.MkdirTemp(dir, "hub-")
	if err != nil {
		return nil, err
	}
	h := &hub{program: program, dir: data, logs: dir}
	if h.api, err = freeAddress(); err != nil {
		return nil, err
	}
	if err := h.start(); err != nil {
		return nil, err
	}
	if err := h.await(ctx, func() error { return h.ready(ctx) }); err != nil {
		h.stop()
		return nil, err
	}
	return h, nil
}

func (h *hub) start() (err error) {
	h.child, err = spawn(h.logs, h.program, "--data-dir", h.dir, "--listen", h.api, "--host", "127.0.0.1", "--log-level", "warn")
	return err
}

// ready returns nil once the hub answers.
func (h *hub) ready(ctx context.Context) error {
	if h.client == nil {
		ca, err := os.ReadFile(filepath.Join(h.dir, "ca.crt"))
		if err != nil {
			return err
		}
		token, err := os.ReadFile(filepath.Join(h.dir, "token"))
		if err != nil {
			return err
		}
		h.roots = x509.NewCertPool()
		if !h.roots.AppendCertsFromPEM(ca) {
			return errors.New("no certificate in ca.crt yet")
		}
		h.token = strings.TrimSpace(string(token))
		h.client = client.New("https://"+h.api, h.token)
		h.client.Trust(h.roots)
		h.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.roots}}}
	}
	return h.client.Ready(ctx)
}

// restart kills the hub and starts it again, with what it has on disk.
func (h *hub) restart() error {
	h.cmd.Process.Kill()
	<-h.gone
	return h.start()
}

// link is where nodes dial.
func (h *hub) link() string { return "wss://" + h.api + link.Path }

// debug asks for one of the hub's profiles.
func (h *hub) debug(ctx context.Context, what string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+h.api+"/debug/pprof/"+what, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+h.token)
	res, err := h.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", what, res.Status)
	}
	return io.ReadAll(io.LimitReader(res.Body, 256<<20))
}

// top returns the first lines of a profile of the hub.
func (h *hub) top(ctx context.Context, what string, flags ...string) (string, error) {
	data, err := h.debug(ctx, what)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(h.logs, "profile-*.pprof")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "go", append(append([]string{"tool", "pprof", "-top", "-nodecount=25"}, flags...), f.Name())...).Output()
	if err != nil {
		return "", fmt.Errorf("read profile: %w", err)
	}
	return string(out), nil
}

// A Weight is what a hub holds, in bytes.
type Weight struct {
	Resident int64 // as the kernel counts
	Heap     int64 // in use, after a collection
	Stack    int64
}

var memstats = regexp.MustCompile(`(?m)^# (HeapInuse|Stack) = (\d+)`)

func (h *hub) weight(ctx context.Context) (w Weight, err error) {
	w.Resident, _ = resident(h.pid())
	text, err := h.debug(ctx, "heap?gc=1&debug=1")
	if err != nil {
		return w, err
	}
	for _, found := range memstats.FindAllSubmatch(text, -1) {
		n, err := strconv.ParseInt(string(found[2]), 10, 64)
		if err != nil {
			return w, err
		}
		if string(found[1]) == "Stack" {
			w.Stack = n
		} else {
			w.Heap = n
		}
	}
	return w, nil
}

// worked returns how much processor time a process has taken.
func worked(pid int) time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // of a process of ours
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64) // the kernel writes numbers, in hundredths of a second
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// resident returns how much of a process is in memory, bytes, and how much was at most.
func resident(pid int) (now, most int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // of a process of ours
	for line := range strings.Lines(string(text)) {
		switch f := strings.Fields(line); f[0] {
		case "VmRSS:":
			now = kilobytes(f)
		case "VmHWM:":
			most = kilobytes(f)
		}
	}
	return now, most
}

// load returns how many processes wanted to run, over the last minute.
func load() float64 {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	n, _ := strconv.ParseFloat(first, 64) // the kernel writes numbers
	return n
}
