package edge

// A Position says how far someone has followed the hub's definitions. It is a
// count of changes, not a time: within an epoch a higher Revision is newer;
// another epoch means that nothing can be compared and all is to be sent again.
// Digest names the very functions that a node is to run at that point, as
// [Digest] has it; the hub's own position, which is that of no node, has none.
type Position struct {
	Epoch    string `json:"epoch"` // "" for nobody's
	Revision int64  `json:"revision"`
	Digest   string `json:"digest,omitempty"`
}
