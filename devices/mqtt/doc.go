// Package mqtt carries messages between an MQTT 3.1.1 broker and the agent.
//
// A [Client] keeps two connections. The inbound one subscribes; the broker
// keeps its session, so what devices say while the node is away or restarting
// waits there. The outbound one publishes. Either is dialled again, with
// jitter, for as long as Run runs: a broker that is away is a state, not an
// error.
//
// What it promises: a message is acknowledged when its taker says so and not
// before; Publish and Ack never wait for the network; a publication is
// confirmed only by the broker's PUBACK on the connection that carried it, and
// its outcome is told exactly once; no packet, however it is made, costs more
// memory than the configured cap or stops the program.
//
// What it leaves to others: to store what is not confirmed, to recognise a
// message that comes twice, to keep up with what it hands over.
//
// paho.mqtt.golang keeps the session; messages pass beside it. RATIONALE.md
// says why.
package mqtt
