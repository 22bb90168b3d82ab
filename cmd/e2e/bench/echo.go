package main

import (
	"context"
	"fmt"
	"strings"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// runEcho is "bench echo": what everything is compared with. One paho client
// with its default settings answers each message from within its handler, in
// order, and waits for nothing, as the simplest good echo would be written.
func runEcho(ctx context.Context, broker string) error {
	answer := func(c mqtt.Client, m mqtt.Message) {
		c.Publish("echo/out/"+strings.TrimPrefix(m.Topic(), "echo/in/"), m.Qos(), false, m.Payload())
	}
	c, err := connect(broker, "bench-echo", func(c mqtt.Client) error {
		return wait(c.Subscribe("echo/in/+", 1, answer))
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	<-ctx.Done()
	c.Disconnect(100)
	return nil
}
