package pod

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/functions/pod/keeper"
	"github.com/sedge-iot/sedge/functions/runner"
)

// A line is a connection to a runner that has said hello.
type line struct {
	link     *runner.Link
	over     chan struct{} // closed when it has ended
	err      error         // why it did, as runner.Link.Run has it; read once over is closed
	restarts int           // of the container before it was connected to
}

// connect connects to the runner of r's pod, once that runs. It returns an error
// that is a *fault if the pod cannot come to run, and otherwise tries until ctx is
// done; the error then says what it waited for.
func (s *Sandbox) connect(ctx context.Context, r *record) (*line, error) {
	pause := 2 * time.Millisecond
	for {
		p, err := s.running(ctx, r)
		if err != nil {
			return nil, err
		}
		l, err := s.dial(ctx, p)
		if err == nil || errors.Is(err, keeper.ErrStranger) || errors.Is(err, errEnded) {
			return l, err
		}
		// The container has begun, its program may not listen yet, or it ended again.
		select {
		case <-time.After(pause):
			pause = min(2*pause, 250*time.Millisecond)
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to pod %s: %w", p.Metadata.Name, err)
		case <-s.life.Done():
			return nil, errEnded
		}
	}
}

// running waits until r's pod runs, and returns it as it is then.
func (s *Sandbox) running(ctx context.Context, r *record) (p *kube.Pod, err error) {
	waited := s.await(ctx, func() bool {
		p, err = r.pod, r.faultLocked()
		return err != nil || p.Status.PodIP != "" && begun(p)
	})
	if waited != nil {
		return p, fmt.Errorf("%w: pod %s %s", waited, p.Metadata.Name, waiting(p))
	}
	return p, err
}

// begun reports whether the pod's container runs.
func begun(p *kube.Pod) bool {
	c := p.Status.Containers
	return len(c) > 0 && c[0].State.Running != nil
}

// dialTime is how long a connection may take: on one node it takes a millisecond.
const dialTime = 5 * time.Second

func (s *Sandbox) dial(ctx context.Context, p *kube.Pod) (*line, error) {
	settings, err := keeper.Client(s.keys.agent, keeper.Public(s.keys.pod(p.Metadata.Annotations[annotationNonce])))
	if err != nil {
		return nil, err
	}
	within, stop := context.WithTimeout(ctx, dialTime)
	defer stop()
	d := tls.Dialer{Config: settings}
	conn, err := d.DialContext(within, "tcp", net.JoinHostPort(p.Status.PodIP, strconv.Itoa(keeper.Port)))
	if err != nil {
		return nil, err
	}
	l := &line{link: runner.NewLink(conn), over: make(chan struct{}), restarts: restarts(p)}
	ok := s.work(func() {
		defer context.AfterFunc(s.life, func() { l.link.Close() })()
		l.err = l.link.Run()
		close(l.over)
	})
	if !ok {
		conn.Close()
		return nil, errEnded
	}
	if err := l.link.Ready(within); err != nil {
		l.link.Close()
		<-l.over
		return nil, err
	}
	return l, nil
}

func restarts(p *kube.Pod) int {
	if len(p.Status.Containers) == 0 {
		return 0
	}
	return p.Status.Containers[0].RestartCount
}
