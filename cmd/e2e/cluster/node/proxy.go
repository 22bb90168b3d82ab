package node

import (
	"context"
	"io"
	"net"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Proxy passes each connection that l accepts on to target, an address in the
// network namespace that is the file netns. It closes l and returns when ctx
// ends, once all connections are closed.
func Proxy(ctx context.Context, l net.Listener, netns, target string) error {
	defer l.Close()
	ns, err := os.Open(netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		open.Go(func() { pass(ctx, c, ns, target) })
	}
}

// pass copies between c and the target, both ways, until both have said all.
// Where nobody answers there, c is closed: the caller sees what it would see of
// a server that is away.
func pass(ctx context.Context, c net.Conn, ns *os.File, target string) {
	defer c.Close()
	far, err := dialWithin(ctx, ns, target)
	if err != nil {
		return
	}
	defer far.Close()
	stop := context.AfterFunc(ctx, func() { c.Close(); far.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { copyHalf(far, c) })
	copyHalf(c, far)
	both.Wait()
}

func copyHalf(to, from net.Conn) {
	io.Copy(to, from)
	if half, ok := to.(*net.TCPConn); ok {
		half.CloseWrite()
	}
}

func dialWithin(ctx context.Context, ns *os.File, target string) (c net.Conn, err error) {
	var done sync.WaitGroup
	done.Go(func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil {
			var d net.Dialer
			c, err = d.DialContext(ctx, "tcp", target)
		}
	})
	done.Wait()
	return c, err
}
