// Package cluster lets a Kubernetes cluster take the hub's place: functions are
// resources (functions.sedge.dev), every node takes up those that are meant for
// it, and says in their status how they are. A [Desk] decides, without a clock or
// a connection; a [Node] carries out. A [Client] is for people.
//
// The API server being away is a state, not an error: what runs goes on running.
package cluster
