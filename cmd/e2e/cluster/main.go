// Command cluster brings up a real Kubernetes of one node on this machine for
// tests, does to it what they need done, and takes it away without a trace.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/cmd/e2e/cluster/node"
)

const help = `cluster brings up a real Kubernetes of one node on this machine, for tests: no
systemd, no registry, nothing installed, and nothing left when it goes. Needs
Linux with cgroup v1, to be root, and Debian's packages.

  cluster deps                                 once
  cluster up a                                 ready in about three seconds
  cluster exec a -- go test -tags cluster .    within its network
  cluster down a

stdout is the answer, stderr is talk. Exit codes: 0 done, 1 failed; exec's is
that of the command.`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Long: help, SilenceErrors: true, SilenceUsage: true}
	c.CompletionOptions.DisableDefaultCmd = true
	c.AddCommand(deps(), up(), enter(), importImage(), change(node.Kill), change(node.Stop), change(node.Start),
		api(), proxy(), image(), down(), inner("keep", node.Keep), inner("init", node.Init))
	return c
}

func deps() *cobra.Command {
	return &cobra.Command{
		Use:   "deps",
		Short: "Unpack the Debian packages that a node needs into the cache; print the folder",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := node.Debian(c.Context())
			if err == nil {
				fmt.Println(dir)
			}
			return err
		},
	}
}

func up() *cobra.Command {
	var o node.Options
	c := &cobra.Command{
		Use:   "up NAME",
		Short: "Bring a cluster up; print how it is reached as JSON once it is ready",
		Long: `Bring a cluster up; print how it is reached as JSON once it is ready.

It ends by itself when its owner does, at the latest after the time that --for says.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.Name = args[0]
			n, err := node.Up(c.Context(), o)
			if err != nil {
				return err
			}
			text, err := json.MarshalIndent(n, "", "  ")
			if err == nil {
				fmt.Println(string(text))
			}
			return err
		},
	}
	c.Flags().StringVar(&o.Persist, "persist", "", "keep the state in `DIR`, for a node that comes back (default in memory)")
	c.Flags().StringArrayVar(&o.Images, "image", nil, "import the OCI archive `TAR`; may be repeated")
	c.Flags().StringVar(&o.API, "api", "127.0.0.1:0", "`ADDRESS` on this host that leads to the API server")
	c.Flags().IntVar(&o.Owner, "owner", os.Getppid(), "`PID` of the process that it ends with, 0: none (default the one that calls)")
	c.Flags().DurationVar(&o.For, "for", 30*time.Minute, "longest life")
	c.Flags().Lookup("owner").DefValue = "0"
	return c
}

func enter() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "exec NAME -- COMMAND...",
		Short: "Run a command in the node's network, with KUBECONFIG and NODE_NAME set",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			command := args[1:]
			if command[0] == "--" {
				command = command[1:]
			}
			if len(command) == 0 {
				return errors.New("exec: which command?")
			}
			return node.Exec(args[0], all, command)
		},
	}
	c.Flags().SetInterspersed(false) // what follows the name is the command's
	c.Flags().BoolVar(&all, "all", false, "in all of its namespaces: its processes, mounts, containerd")
	return c
}

func importImage() *cobra.Command {
	return &cobra.Command{
		Use:   "import NAME TAR",
		Short: "Give the images of an OCI archive to the node",
		Args:  cobra.ExactArgs(2),
		RunE:  func(c *cobra.Command, args []string) error { return node.Import(args[0], args[1]) },
	}
}

var changes = map[string]string{
	node.Kill:  "Kill a component with SIGKILL; COMPONENT node is a power cut, as down",
	node.Stop:  "Stop a component with SIGTERM and wait for its end",
	node.Start: "Start a component again and wait until it is healthy",
}

func change(verb string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " NAME COMPONENT",
		Short: changes[verb],
		Long:  changes[verb] + ".\n\nComponents: containerd kine apiserver controller-manager scheduler kubelet kube-proxy",
		Args:  cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if verb == node.Kill && args[1] == "node" {
				return node.Down(c.Context(), args[0])
			}
			return node.Control(c.Context(), args[0], verb, args[1])
		},
	}
}

func api() *cobra.Command {
	var method, data string
	c := &cobra.Command{
		Use:     "api NAME PATH",
		Short:   "Send a request to the API server and print the answer",
		Example: "  cluster api a /api/v1/nodes\n  cluster api a --data @pod.json /api/v1/namespaces/default/pods",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			body, err := content(data)
			if err != nil {
				return err
			}
			if method == "" {
				method = map[bool]string{true: "GET", false: "POST"}[body == nil]
			}
			n, err := node.Find(args[0])
			if err != nil {
				return err
			}
			a, err := n.API()
			if err != nil {
				return err
			}
			answer, err := a.Do(c.Context(), method, args[1], body)
			if err == nil {
				_, err = os.Stdout.Write(append(answer, '\n'))
			}
			return err
		},
	}
	c.Flags().StringVarP(&method, "request", "X", "", "`METHOD` (default GET, with data POST)")
	c.Flags().StringVarP(&data, "data", "d", "", "JSON to send, or @`FILE`")
	return c
}

// content returns the text of a flag, which may name a file with @.
func content(flag string) ([]byte, error) {
	switch {
	case flag == "":
		return nil, nil
	case flag[0] == '@':
		return os.ReadFile(flag[1:])
	}
	return []byte(flag), nil
}

func proxy() *cobra.Command {
	return &cobra.Command{
		Use:   "proxy NAME LISTEN TARGET",
		Short: "Pass connections to LISTEN here on to TARGET in the node's network, until ^C",
		Args:  cobra.ExactArgs(3),
		RunE: func(c *cobra.Command, args []string) error {
			n, err := node.Find(args[0])
			if err != nil {
				return err
			}
			l, err := net.Listen("tcp", args[1])
			if err != nil {
				return err
			}
			fmt.Println(l.Addr())
			return node.Proxy(c.Context(), l, n.NetNS, args[2])
		},
	}
}

func image() *cobra.Command {
	return &cobra.Command{
		Use:     "image REFERENCE TAR PROGRAM",
		Short:   "Write an OCI archive of one static program",
		Example: "  cluster image localhost/testapp:1 testapp.tar bin/testapp",
		Args:    cobra.ExactArgs(3),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := os.Create(args[1])
			if err != nil {
				return err
			}
			return errors.Join(node.Image(f, args[0], filepath.Clean(args[2])), f.Close())
		},
	}
}

func down() *cobra.Command {
	return &cobra.Command{
		Use:   "down NAME",
		Short: "Take a cluster away, as a power cut would, and leave nothing",
		Args:  cobra.ExactArgs(1),
		RunE:  func(c *cobra.Command, args []string) error { return node.Down(c.Context(), args[0]) },
	}
}

// inner is for what the program calls itself for: a part of a node, which says
// on file 3 how its start went.
func inner(name string, run func(context.Context, node.Options, *os.File) error) *cobra.Command {
	return &cobra.Command{
		Use:    name,
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var o node.Options
			if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
				return err
			}
			syscall.CloseOnExec(3) // or the components would hold it open
			return run(c.Context(), o, os.NewFile(3, "tell"))
		},
	}
}
