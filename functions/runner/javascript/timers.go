package javascript

import (
	"container/heap"
	"reflect"
	"time"

	"github.com/grafana/sobek"

	"github.com/sedge-iot/sedge/functions"
)

// maxTimers limits how many timers one run may have waiting.
const maxTimers = 1_000

// A timer is a setTimeout or setInterval that waits.
type timer struct {
	id    int64
	at    time.Time
	every time.Duration // 0: once
	call  sobek.Callable
	args  []sobek.Value
	gone  bool
}

// timers is a heap, the next one first.
type timers struct {
	list []*timer
	last int64
	byID map[int64]*timer
}

func (t *timers) Len() int { return len(t.list) }
func (t *timers) Less(i, j int) bool {
	a, b := t.list[i], t.list[j]
	return a.at.Before(b.at) || a.at.Equal(b.at) && a.id < b.id
}
func (t *timers) Swap(i, j int) { t.list[i], t.list[j] = t.list[j], t.list[i] }
func (t *timers) Push(x any)    { t.list = append(t.list, x.(*timer)) }
func (t *timers) Pop() any {
	last := t.list[len(t.list)-1]
	t.list = t.list[:len(t.list)-1]
	return last
}

func (t *timers) add(n *timer) int64 {
	t.last++
	n.id = t.last
	if t.byID == nil {
		t.byID = map[int64]*timer{}
	}
	t.byID[n.id] = n
	heap.Push(t, n)
	return n.id
}

func (t *timers) clear(id int64) {
	if n := t.byID[id]; n != nil {
		n.gone = true
		delete(t.byID, id)
	}
}

// next takes the timer that is due first, or returns nil.
func (t *timers) next() *timer {
	for len(t.list) > 0 {
		n := heap.Pop(t).(*timer)
		if !n.gone {
			return n
		}
	}
	return nil
}

// settle returns what v comes to: if it is a promise, what that is resolved
// with, once the timers that it waits for have run.
func (c *place) settle(v sobek.Value) (sobek.Value, error) {
	o, ok := v.(*sobek.Object)
	if !ok {
		return v, nil
	}
	if o.ExportType() != reflect.TypeFor[*sobek.Promise]() {
		return v, nil
	}
	p := o.Export().(*sobek.Promise)
	for {
		switch p.State() {
		case sobek.PromiseStateFulfilled:
			return p.Result(), nil
		case sobek.PromiseStateRejected:
			return nil, c.rejected(p.Result())
		}
		t := c.timers.next()
		if t == nil {
			return nil, &functions.Failure{Code: functions.CodeThrown, Message: "handler returned a promise that never settles"}
		}
		if err := c.fire(t); err != nil {
			return nil, err
		}
	}
}

// fire waits until t is due and calls it.
func (c *place) fire(t *timer) error {
	if wait := time.Until(t.at); wait > 0 {
		if c.host != nil {
			c.host.Idle()
		}
		clock := time.NewTimer(wait)
		defer clock.Stop()
		select {
		case <-clock.C:
		case <-c.wake:
		}
	}
	if f := c.stopped.Load(); f != nil {
		return f
	}
	if t.every > 0 {
		t.at = time.Now().Add(t.every)
		heap.Push(&c.timers, t)
	} else {
		delete(c.timers.byID, t.id)
	}
	_, err := t.call(sobek.Undefined(), t.args...)
	return err
}

// rejected makes an error of what a promise was rejected with.
func (c *place) rejected(reason sobek.Value) error {
	throw := func(sobek.FunctionCall) sobek.Value { panic(reason) }
	call, _ := sobek.AssertFunction(c.vm.ToValue(throw))
	_, err := call(sobek.Undefined())
	return err
}
