package node

import "github.com/sedge-iot/sedge/edge"

// Health says of each check and function why it is not well, or "" if it is: what
// another version of the program is measured by. A function that sleeps or is being
// started is well.
func (n *Node) Health() map[string]string {
	h := map[string]string{}
	for _, c := range n.Checks() {
		h["check "+c.Name] = fault(!c.OK, c.Why)
	}
	if n.member != nil { // to be away is no fault of a node, but of a version that does not reach the hub any more
		is := n.member.Status()
		h["hub"] = fault(!is.Connected, is.Error)
	}
	for _, f := range n.Agent.Functions() {
		h["function "+f.Name] = fault(f.Phase == edge.Failing, f.Reason)
	}
	return h
}

func fault(is bool, why string) string {
	switch {
	case !is:
		return ""
	case why == "":
		return "not well"
	}
	return why
}
