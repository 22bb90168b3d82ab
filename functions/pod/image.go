package pod

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

// A server is the instance of a function whose container is the user's own and
// answers HTTP. Its container may end and start again under it: attempts fail then,
// and are tried again. It ends when its pod does.
type server struct {
	s      *Sandbox
	r      *record
	name   string // of the pod
	url    string
	client *http.Client

	transport *http.Transport

	gone chan struct{} // closed when it has ended and every Run is done

	open  context.Context // ends with the server
	close context.CancelCauseFunc

	mu    sync.Mutex
	ended *functions.Failure // why it takes no more; guarded by mu
	runs  sync.WaitGroup     // attempts under way
}

var _ functions.Instance = (*server)(nil)

// open waits until r's pod is ready, and returns the instance.
func (s *Sandbox) open(ctx context.Context, f functions.Function, r *record) (functions.Instance, error) {
	if err := s.answering(ctx, r); err != nil {
		return nil, err
	}
	s.mu.Lock()
	p := r.pod
	s.mu.Unlock()
	v := newServer(s, r, p.Metadata.Name, "http://"+net.JoinHostPort(p.Status.PodIP, strconv.Itoa(imagePort))+"/")
	v.transport.MaxIdleConnsPerHost = f.Manifest.Spec.Resources.Concurrency
	if !s.work(v.supervise) {
		return nil, errEnded
	}
	return v, nil
}

// newServer returns the instance that answers at url.
func newServer(s *Sandbox, r *record, name, url string) *server {
	t := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTime}).DialContext,
		MaxResponseHeaderBytes: 64 << 10,
		IdleConnTimeout:        time.Minute,
		DisableCompression:     true,
	}
	v := &server{s: s, r: r, name: name, url: url, transport: t, gone: make(chan struct{})}
	v.client = &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	v.open, v.close = context.WithCancelCause(s.life)
	return v
}

// answering waits until r's pod is ready.
func (s *Sandbox) answering(ctx context.Context, r *record) error {
	var why string
	var err error
	waited := s.await(ctx, func() bool {
		err, why = r.faultLocked(), waiting(r.pod)
		c := r.pod.Status.Containers
		return err != nil || r.pod.Status.PodIP != "" && len(c) > 0 && c[0].Ready
	})
	if waited != nil {
		return fmt.Errorf("%w: its pod %s", waited, why)
	}
	return err
}

// supervise waits for the end of the pod or of the server.
func (v *server) supervise() {
	defer close(v.gone)
	var end error
	v.s.await(v.open, func() bool { // that v.open ended leaves end nil
		f, ok := v.r.faultLocked().(*fault)
		if ok && !f.keep {
			end = f
		}
		return end != nil
	})
	f := closed
	if end != nil {
		f = &functions.Failure{Code: functions.CodeDied, Message: "ended: " + end.Error()}
		v.s.log.Warn("container ended", "pod", v.name, "reason", end)
	}
	v.mu.Lock()
	v.ended = f
	v.mu.Unlock()
	v.close(f)
	v.runs.Wait()
	v.client.CloseIdleConnections()
	v.s.release(v.r, end != nil || !v.s.leaving.Load() && v.s.life.Err() == nil)
}

// Invoke sends the event.
func (v *server) Invoke(inv functions.Invocation, r functions.Run) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f := v.ended; f != nil {
		go r.Done(functions.Outcome{Err: f}) // came after the end: nobody waits
		return
	}
	v.runs.Go(func() {
		began := time.Now()
		returned, f := v.call(inv)
		r.Done(functions.Outcome{Returned: returned, Err: f, Took: time.Since(began)})
	})
}

// call sends the event and returns what came back.
func (v *server) call(inv functions.Invocation) ([]byte, *functions.Failure) {
	ctx, stop := context.WithTimeout(v.open, inv.Timeout)
	defer stop()
	req, err := request(ctx, v.url, inv)
	if err != nil {
		return nil, &functions.Failure{Code: functions.CodePayload, Message: err.Error()}
	}
	resp, err := v.client.Do(req)
	if err == nil {
		defer resp.Body.Close()
		var returned []byte
		var f *functions.Failure
		if returned, f, err = outcome(resp); err == nil {
			return returned, f
		}
	}
	if f, ok := errors.AsType[*functions.Failure](context.Cause(v.open)); ok {
		return nil, f
	}
	if v.s.life.Err() != nil {
		return nil, closed
	}
	if ctx.Err() != nil {
		return nil, &functions.Failure{Code: functions.CodeTimeout, Message: fmt.Sprintf("handler did not end within %v", inv.Timeout)}
	}
	return nil, &functions.Failure{Code: functions.CodeThrown, Message: "the container does not answer: " + err.Error()}
}

// Ended is closed when the pod has ended.
func (v *server) Ended() <-chan struct{} { return v.gone }

// Close interrupts what is under way and has the pod deleted.
func (v *server) Close() error {
	v.close(closed)
	<-v.gone
	return nil
}

// Describe names the pod and its walls, and what it cannot have for certain.
func (v *server) Describe() functions.Description {
	return functions.Description{Sandbox: "pod", Name: v.name, Walls: walls, Missing: []string{"no network: the namespace's policy says so, but some clusters' networks keep to none"}}
}
