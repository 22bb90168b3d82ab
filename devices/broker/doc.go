// Package broker is the MQTT broker that runs inside a node's own process, for
// boards that have none. It speaks MQTT 3.1, 3.1.1 and 5 to devices, and offers
// the agent what the client of package mqtt does, without a socket in between.
//
// A device's PUBLISH at QoS 1 or 2 is acknowledged when it is done or stored,
// and not before: when the agent, if it wants the topic, has called Ack, and
// when every subscriber whose session outlives its connection has acknowledged
// the message or it is in the database. Whoever is slow to acknowledge holds up
// nobody else.
//
// Sessions, their subscriptions and what they have not acknowledged survive a
// crash; an acknowledged message within them is never lost. Retained messages
// are written at most every 30 seconds and at the end, so a crash takes back the
// last half minute of them. Nothing is written while nothing changes, nor for a
// message that its subscribers acknowledge within 50 ms.
//
// Subscriptions at QoS 2 are granted QoS 1. A session belongs to a user and a
// client id together, so that nobody takes over what another user left.
//
// What it leaves to others: TLS certificates, and what a message means.
package broker
