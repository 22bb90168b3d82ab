package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/k3s-io/kine/pkg/drivers"
	"github.com/k3s-io/kine/pkg/drivers/generic"
	"github.com/k3s-io/kine/pkg/drivers/sqlite"
	"github.com/k3s-io/kine/pkg/server"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// kineCommand takes kine's parts one by one: its own command links a driver for
// every database that there is.
func kineCommand() *cobra.Command {
	var socket, file string
	c := &cobra.Command{
		Use:  "kine",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			return kine(ctx, socket, file)
		},
	}
	c.Flags().StringVar(&socket, "listen", "", "Unix `SOCKET` to serve etcd's protocol on")
	c.Flags().StringVar(&file, "db", "", "SQLite `FILE`")
	return c
}

// kine serves until ctx ends.
func kine(ctx context.Context, socket, file string) error {
	var polls sync.WaitGroup
	defer polls.Wait()
	background, end := context.WithCancel(context.Background())
	defer end()
	_, backend, err := sqlite.New(background, &polls, &drivers.Config{
		DataSourceName:       file + "?" + sqlite.DefaultParams,
		ConnectionPoolConfig: generic.ConnectionPoolConfig{MaxIdle: 20, MaxIdleTime: 2 * time.Minute},
		PollInterval:         time.Second,
		PollBatchSize:        500,
		CompactTimeout:       5 * time.Second,
		CompactMinRetain:     1000,
		CompactBatchSize:     1000,
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", file, err)
	}
	if err := backend.Start(background); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	s := grpc.NewServer(
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * time.Hour, Timeout: 20 * time.Second}),
		grpc.MaxRecvMsgSize(2<<20), grpc.MaxSendMsgSize(1<<31-1))
	server.New(backend, "unix", 5*time.Second, "3.6.11").Register(s) // the version of etcd that it is like
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, s.Stop)() // watches never end by themselves
	return s.Serve(l)
}
