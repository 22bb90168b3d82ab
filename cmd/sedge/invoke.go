package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

// maxInput is the most that is read from a file or stdin as data, in bytes.
const maxInput = 1 << 20

type invokeOptions struct {
	data, topic string
}

func newInvoke(sh *shell) *cobra.Command {
	var o invokeOptions
	cmd := &cobra.Command{
		Use:   "invoke FUNCTION",
		Short: "Run a function once, by hand",
		Long: `Run a function once on an event of your making. No condition is asked, and what
the function asks for is carried out. What it returns is printed.`,
		Example: `  sedge invoke night-light -d '{"occupancy":true,"illuminance":4}'
  sedge invoke night-light -d @event.json --topic zigbee2mqtt/hall_motion
  mosquitto_sub -t zigbee2mqtt/hall_motion -C 1 | sedge invoke night-light -d -`,
		RunE: func(cmd *cobra.Command, args []string) error { return sh.invoke(cmd.Context(), args[0], o) },
	}
	cmd.Flags().StringVarP(&o.data, "data", "d", "", "the event's `PAYLOAD`: the text itself, @FILE, or - for stdin")
	cmd.Flags().StringVar(&o.topic, "topic", "", "the event's `TOPIC`; captures are taken from it")
	return sh.nodeVerb(cmd)
}

func (sh *shell) invoke(ctx context.Context, name string, o invokeOptions) error {
	payload, err := sh.data(o.data)
	if err != nil {
		return err
	}
	var ran edge.Invoked
	err = sh.ask(ctx, name, func(c *client.Client) (err error) {
		ran, err = c.Invoke(ctx, name, edge.Invoke{Topic: o.topic, Payload: payload})
		return err
	})
	if err != nil {
		return err
	}
	if done, err := sh.structured(ran); err != nil {
		return err
	} else if !done {
		sh.printInvoked(ran)
	}
	if ran.Error != nil {
		return fmt.Errorf("%s: %w", name, &ranError{*ran.Error})
	}
	return nil
}

func (sh *shell) printInvoked(ran edge.Invoked) {
	if ran.Returned != "" {
		fmt.Fprintln(sh.out, ran.Returned)
	}
	for _, topic := range ran.Published {
		sh.say("published %s", topic)
	}
	if ran.Error == nil {
		sh.say("%s", sh.paint(sh.talk, dim, "took "+span(ran.Took)))
	}
}

// data returns what an argument means: itself, the file after @, or stdin for -.
func (sh *shell) data(arg string) ([]byte, error) {
	name, isFile := strings.CutPrefix(arg, "@")
	var from io.Reader
	switch {
	case arg == "-":
		from, name = sh.in, "stdin"
	case isFile:
		f, err := os.Open(name)
		if err != nil {
			return nil, wrongUsage("", "read data: %s", err)
		}
		defer f.Close()
		from = f
	default:
		return []byte(arg), nil
	}
	data, err := io.ReadAll(io.LimitReader(from, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxInput {
		return nil, wrongUsage("", "%s is larger than %s", name, size(maxInput))
	}
	return data, nil
}
