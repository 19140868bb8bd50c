// Every feature of the Go SDK, one function a scenario, each execution recorded in a log served at /log.
//
// Function ids are the scenario names, triggered by the event <app>/<scenario>. The environment decides the rest:
// PORT (where to listen), APP_ID, STUB_URL (a stand-in for other people's APIs) and the SDK's own INNGEST_* variables.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/inngest/inngestgo"
	"github.com/inngest/inngestgo/group"
	"github.com/inngest/inngestgo/pkg/checkpoint"
	"github.com/inngest/inngestgo/step"
)

type (
	data    = map[string]any
	input   = inngestgo.Input[data]
	handler = inngestgo.SDKFunction[data]
	options = inngestgo.FunctionOpts
)

type entry struct {
	Kind    string  `json:"kind"`
	Run     string  `json:"run"`
	Step    string  `json:"step,omitempty"`
	Attempt int     `json:"attempt"`
	Query   string  `json:"query,omitempty"`
	At      float64 `json:"at"`
	Extra   data    `json:"extra,omitempty"`
}

var (
	app     = cmp.Or(os.Getenv("APP_ID"), "go")
	stubURL = cmp.Or(os.Getenv("STUB_URL"), "http://127.0.0.1:9")
	byKey   = inngestgo.StrPtr("event.data.k")

	mutex   sync.Mutex
	entries = []entry{}
)

func add(e entry) int {
	mutex.Lock()
	defer mutex.Unlock()
	e.At = float64(time.Now().UnixMicro()) / 1e6
	entries = append(entries, e)
	count := 0
	for _, other := range entries {
		if other.Kind == e.Kind && other.Run == e.Run && other.Step == e.Step {
			count++
		}
	}
	return count
}

// record appends an execution to the log and returns how often this run has recorded this step.
func record(in input, name string, extra data) int {
	return add(entry{Kind: "step", Run: in.InputCtx.RunID, Step: name, Attempt: in.InputCtx.Attempt, Extra: extra})
}

// do runs a recorded step that returns value.
func do[T any](ctx context.Context, in input, name string, value T) (T, error) {
	return step.Run(ctx, name, func(context.Context) (T, error) {
		record(in, name, nil)
		return value, nil
	})
}

func number(value any) float64 {
	n, _ := value.(float64)
	return n
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func newClient(id string, streaming bool) inngestgo.Client {
	// Checkpoints go to the address of this option only, not to that of INNGEST_BASE_URL.
	var api *string
	if url := os.Getenv("INNGEST_BASE_URL"); url != "" {
		api = inngestgo.StrPtr(url)
	}
	return must(inngestgo.NewClient(inngestgo.ClientOpts{
		APIBaseURL:   api,
		AppID:        id,
		UseStreaming: streaming,
		Logger:       slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}))
}

func register(client inngestgo.Client, opts options, trigger inngestgo.Trigger, h handler) {
	if opts.Retries == nil {
		opts.Retries = inngestgo.IntPtr(0)
	}
	must(inngestgo.CreateFunction(client, opts, trigger, h))
}

func on(name string) inngestgo.Trigger { return inngestgo.EventTrigger(app+"/"+name, nil) }

func main() {
	client := newClient(app, false)
	scenario := func(opts options, h handler) { register(client, opts, on(opts.ID), h) }

	steps(scenario)
	failures(client, scenario)
	parallels(scenario)
	timed(scenario)
	events(client, scenario)
	flowControl(client, scenario)
	gateways(scenario)

	streaming := newClient(app+"-stream", true)
	register(streaming, options{ID: "streamed", Retries: inngestgo.IntPtr(1)},
		inngestgo.EventTrigger(app+"-stream/streamed", nil),
		func(ctx context.Context, in input) (any, error) {
			first, err := do(ctx, in, "first", 1)
			if err == nil && record(in, "body", nil) == 1 {
				err = errors.New("once more")
			}
			return data{"first": first}, err
		})

	serve(client, streaming)
}

func serve(client, streaming inngestgo.Client) {
	mux := http.NewServeMux()
	mux.Handle("/api/inngest", client.Serve())
	mux.Handle("/api/stream", streaming.ServeWithOpts(inngestgo.ServeOpts{Path: inngestgo.StrPtr("/api/stream")}))
	mux.HandleFunc("/log", func(w http.ResponseWriter, r *http.Request) {
		mutex.Lock()
		defer mutex.Unlock()
		only, found := r.URL.Query().Get("run"), []entry{}
		for _, e := range entries {
			if only == "" || e.Run == only {
				found = append(found, e)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(found)
	})
	logged := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if run := r.Header.Get("X-Run-ID"); run != "" {
			add(entry{Kind: "request", Run: run, Query: r.URL.RawQuery})
		}
		mux.ServeHTTP(w, r)
	})
	panic(http.ListenAndServe("127.0.0.1:"+cmp.Or(os.Getenv("PORT"), "8080"), logged))
}

func steps(scenario func(options, handler)) {
	sequential := func(ctx context.Context, in input) (any, error) {
		one, err := do(ctx, in, "one", 1)
		if err != nil {
			return nil, err
		}
		two, err := do(ctx, in, "two", one+1)
		if err != nil {
			return nil, err
		}
		three, err := do(ctx, in, "three", two+int(number(in.Event.Data["n"])))
		return data{"total": one + two + three}, err
	}
	scenario(options{ID: "sequential"}, sequential)
	scenario(options{ID: "sequential-checkpointed", Checkpoint: checkpoint.ConfigSafe}, sequential)

	scenario(options{ID: "repeated-ids"}, func(ctx context.Context, in input) (any, error) {
		values := []int{}
		for index := range 3 {
			value, err := do(ctx, in, "same", index)
			if err != nil {
				return nil, err
			}
			values = append(values, value)
		}
		return values, nil
	})

	scenario(options{ID: "nulls"}, func(ctx context.Context, in input) (any, error) {
		value, err := do[any](ctx, in, "nothing", nil)
		if err != nil {
			return nil, err
		}
		after, err := do(ctx, in, "after", "done")
		return data{"value": value, "after": after}, err
	})

	scenario(options{ID: "null-output"}, func(ctx context.Context, in input) (any, error) {
		_, err := do[any](ctx, in, "only", nil)
		return nil, err
	})

	scenario(options{ID: "echo"}, func(ctx context.Context, in input) (any, error) {
		value, err := do(ctx, in, "data", in.Event.Data)
		return data{"step": value, "event": in.Event.Data}, err
	})

	scenario(options{ID: "many"}, func(ctx context.Context, in input) (any, error) {
		total := 0
		for index := range int(number(in.Event.Data["n"])) {
			value, err := do(ctx, in, fmt.Sprintf("step %d", index), 1)
			if err != nil {
				return nil, err
			}
			total += value
		}
		return total, nil
	})
}

func failures(client inngestgo.Client, scenario func(options, handler)) {
	scenario(options{ID: "step-retry", Retries: inngestgo.IntPtr(3)}, func(ctx context.Context, in input) (any, error) {
		return step.Run(ctx, "flaky", func(context.Context) (any, error) {
			executions := record(in, "flaky", nil)
			if executions <= int(number(in.Event.Data["failures"])) {
				return nil, fmt.Errorf("failure %d", executions)
			}
			return data{"executions": executions}, nil
		})
	})

	scenario(options{ID: "step-caught", Retries: inngestgo.IntPtr(1)}, func(ctx context.Context, in input) (any, error) {
		_, err := step.Run(ctx, "fails", func(context.Context) (any, error) {
			record(in, "fails", nil)
			return nil, errors.New("boom")
		})
		if err == nil {
			return nil, errors.New("the step did not fail")
		}
		after, afterErr := do(ctx, in, "compensate", "compensated")
		return data{"caught": err.Error(), "after": after}, afterErr
	})

	scenario(options{ID: "on-failure"}, func(ctx context.Context, in input) (any, error) {
		if _, err := do(ctx, in, "before", true); err != nil {
			return nil, err
		}
		return nil, errors.New("order lost")
	})
	// The Go SDK has no failure handlers: a function on the failure event does their work.
	failed := inngestgo.EventTrigger("inngest/function.failed",
		inngestgo.StrPtr("event.data.function_id == '"+app+"-on-failure'"))
	register(client, options{ID: "on-failure-failure"}, failed, func(ctx context.Context, in input) (any, error) {
		_, err := do(ctx, in, "failure-handler", true)
		return data{"handled": in.Event.Data["run_id"]}, err
	})

	scenario(options{ID: "function-retry", Retries: inngestgo.IntPtr(2)}, func(ctx context.Context, in input) (any, error) {
		if _, err := do(ctx, in, "before", true); err != nil {
			return nil, err
		}
		executions := record(in, "body", nil)
		if executions == 1 {
			return nil, errors.New("not yet")
		}
		return data{"executions": executions}, nil
	})

	scenario(options{ID: "non-retriable", Retries: inngestgo.IntPtr(3)}, func(_ context.Context, in input) (any, error) {
		record(in, "body", nil)
		return nil, inngestgo.NoRetryError(errors.New("bad input"))
	})

	scenario(options{ID: "non-retriable-step", Retries: inngestgo.IntPtr(3)}, func(ctx context.Context, in input) (any, error) {
		return step.Run(ctx, "fails", func(context.Context) (any, error) {
			record(in, "fails", nil)
			return nil, inngestgo.NoRetryError(errors.New("bad input"))
		})
	})

	scenario(options{ID: "retry-after", Retries: inngestgo.IntPtr(1)}, func(_ context.Context, in input) (any, error) {
		if record(in, "body", nil) == 1 {
			return nil, inngestgo.RetryAtError(errors.New("busy"), time.Now().Add(3*time.Second))
		}
		return "done", nil
	})
}

func parallels(scenario func(options, handler)) {
	branch := func(in input, name string) func(context.Context) (any, error) {
		return func(ctx context.Context) (any, error) { return do[any](ctx, in, name, name) }
	}

	scenario(options{ID: "parallel"}, func(ctx context.Context, in input) (any, error) {
		results := group.Parallel(ctx, branch(in, "a"), branch(in, "b"), branch(in, "c"))
		values := []any{}
		for _, result := range results {
			values = append(values, result.Value)
		}
		if err := results.AnyError(); err != nil {
			return nil, err
		}
		after, err := do(ctx, in, "after", "done")
		return data{"results": values, "after": after}, err
	})

	scenario(options{ID: "parallel-sleep"}, func(ctx context.Context, in input) (any, error) {
		nap := func(ctx context.Context) (any, error) {
			step.Sleep(ctx, "nap", time.Second)
			return nil, nil
		}
		if err := group.Parallel(ctx, branch(in, "a"), nap, branch(in, "b")).AnyError(); err != nil {
			return nil, err
		}
		after, err := do(ctx, in, "after", "done")
		return data{"after": after}, err
	})

	scenario(options{ID: "parallel-failure"}, func(ctx context.Context, in input) (any, error) {
		results := group.Parallel(ctx, branch(in, "ok"), func(ctx context.Context) (any, error) {
			return step.Run(ctx, "fails", func(context.Context) (any, error) {
				record(in, "fails", nil)
				return nil, errors.New("boom")
			})
		})
		if results[1].Error == nil {
			return nil, errors.New("the step did not fail")
		}
		after, err := do(ctx, in, "after", "done")
		return data{"ok": results[0].Value, "caught": results[1].Error.Error(), "after": after}, err
	})
}

func timed(scenario func(options, handler)) {
	scenario(options{ID: "sleep"}, func(ctx context.Context, in input) (any, error) {
		if _, err := do(ctx, in, "before", true); err != nil {
			return nil, err
		}
		step.Sleep(ctx, "nap", time.Second)
		return do(ctx, in, "after", "woke")
	})

	scenario(options{ID: "sleep-until"}, func(ctx context.Context, in input) (any, error) {
		now := time.Now()
		step.SleepUntil(ctx, "past", now.Add(-time.Hour))
		if _, err := do(ctx, in, "before", true); err != nil {
			return nil, err
		}
		step.SleepUntil(ctx, "future", now.Add(2*time.Second))
		return do(ctx, in, "after", "woke")
	})

	sleepThroughTheNight := func(ctx context.Context, in input) (any, error) {
		if _, err := do(ctx, in, "before", true); err != nil {
			return nil, err
		}
		step.Sleep(ctx, "night", time.Hour)
		return do(ctx, in, "after", true)
	}
	cancel := inngestgo.ConfigCancel{
		Event: app + "/cancel",
		If:    inngestgo.StrPtr("event.data.k == async.data.k"),
	}
	scenario(options{ID: "long-sleep", Cancel: []inngestgo.ConfigCancel{cancel}}, sleepThroughTheNight)
	finish := &inngestgo.ConfigTimeouts{Finish: inngestgo.Ptr(time.Second)}
	scenario(options{ID: "finish-timeout", Timeouts: finish}, sleepThroughTheNight)
}

func events(client inngestgo.Client, scenario func(options, handler)) {
	scenario(options{ID: "wait-match"}, func(ctx context.Context, in input) (any, error) {
		if _, err := do(ctx, in, "before", true); err != nil {
			return nil, err
		}
		event, err := step.WaitForEvent[inngestgo.GenericEvent[data]](ctx, "wait", step.WaitForEventOpts{
			Event:   app + "/answer",
			If:      inngestgo.StrPtr("event.data.k == async.data.k"),
			Timeout: time.Minute,
		})
		if err != nil {
			return nil, err
		}
		after, err := do(ctx, in, "after", "done")
		return data{"answer": event.Data["answer"], "after": after}, err
	})

	scenario(options{ID: "wait-timeout"}, func(ctx context.Context, in input) (any, error) {
		opts := step.WaitForEventOpts{Event: app + "/never", Timeout: time.Second}
		_, err := step.WaitForEvent[inngestgo.GenericEvent[data]](ctx, "wait", opts)
		if !errors.Is(err, step.ErrEventNotReceived) {
			return nil, fmt.Errorf("expected a timeout, got %v", err)
		}
		after, err := do(ctx, in, "after", "done")
		return data{"event": nil, "after": after}, err
	})

	scenario(options{ID: "double"}, func(ctx context.Context, in input) (any, error) {
		doubled, err := do(ctx, in, "double", number(in.Event.Data["n"])*2)
		return data{"doubled": doubled}, err
	})

	scenario(options{ID: "always-fails"}, func(context.Context, input) (any, error) {
		return nil, errors.New("target failed")
	})

	scenario(options{ID: "invoke-ok"}, func(ctx context.Context, in input) (any, error) {
		opts := step.InvokeOpts{FunctionId: app + "-double", Data: data{"n": 21}}
		result, err := step.Invoke[data](ctx, "call", opts)
		if err != nil {
			return nil, err
		}
		after, err := do(ctx, in, "after", "done")
		return data{"result": result, "after": after}, err
	})

	invoke := func(name string, opts step.InvokeOpts) {
		scenario(options{ID: name}, func(ctx context.Context, _ input) (any, error) {
			result, err := step.Invoke[any](ctx, "call", opts)
			if err != nil {
				return data{"caught": err.Error()}, nil
			}
			return data{"result": result}, nil
		})
	}
	invoke("invoke-fails", step.InvokeOpts{FunctionId: app + "-always-fails", Data: data{}})
	invoke("invoke-timeout", step.InvokeOpts{FunctionId: app + "-long-sleep", Data: data{}, Timeout: time.Second})
	invoke("invoke-unknown", step.InvokeOpts{FunctionId: app + "-no-such-function", Data: data{}})

	scenario(options{ID: "send-event"}, func(ctx context.Context, in input) (any, error) {
		k := in.Event.Data["k"]
		ids, err := step.SendMany(ctx, "send", []inngestgo.GenericEvent[data]{
			{Name: app + "/fan-in", Data: data{"k": k, "n": 1}},
			{Name: app + "/fan-in", Data: data{"k": k, "n": 2}},
		})
		if err != nil {
			return nil, err
		}
		after, err := do(ctx, in, "after", "done")
		return data{"ids": ids, "after": after}, err
	})

	scenario(options{ID: "fan-in"}, func(ctx context.Context, in input) (any, error) {
		n, err := do(ctx, in, "received", in.Event.Data["n"])
		return data{"n": n}, err
	})

	only := func(value func(input) string) handler {
		return func(ctx context.Context, in input) (any, error) { return do(ctx, in, "only", value(in)) }
	}
	big := inngestgo.EventTrigger(app+"/filtered", inngestgo.StrPtr("event.data.n > 10"))
	register(client, options{ID: "filtered"}, big, only(func(input) string { return "big" }))
	register(client, options{ID: "wildcard"}, on("tree/*"), only(func(in input) string { return in.Event.Name }))

	scenario(options{ID: "signal"}, func(ctx context.Context, in input) (any, error) {
		if _, err := do(ctx, in, "before", true); err != nil {
			return nil, err
		}
		opts := step.WaitForSignalOpts{Signal: fmt.Sprint(in.Event.Data["k"]), Timeout: time.Minute}
		signal, err := step.WaitForSignal[any](ctx, "wait", opts)
		if err != nil {
			return nil, err
		}
		after, err := do(ctx, in, "after", "done")
		return data{"signal": signal, "after": after}, err
	})

	scenario(options{ID: "signal-timeout"}, func(ctx context.Context, in input) (any, error) {
		opts := step.WaitForSignalOpts{Signal: fmt.Sprint(in.Event.Data["k"]), Timeout: time.Second}
		if _, err := step.WaitForSignal[any](ctx, "wait", opts); !errors.Is(err, step.ErrSignalNotReceived) {
			return nil, fmt.Errorf("expected a timeout, got %v", err)
		}
		after, err := do(ctx, in, "after", "done")
		return data{"signal": nil, "after": after}, err
	})
}

// flowControl keys everything by event.data.k so that tests do not meet each other.
func flowControl(client inngestgo.Client, scenario func(options, handler)) {
	oneByOne := []inngestgo.ConfigStepConcurrency{{Limit: 1, Key: byKey}}

	scenario(options{ID: "concurrency", Concurrency: oneByOne}, func(ctx context.Context, in input) (any, error) {
		return step.Run(ctx, "work", func(context.Context) (any, error) {
			hold, ok := in.Event.Data["hold"].(float64)
			if !ok {
				hold = 0.2
			}
			record(in, "begin", nil)
			time.Sleep(time.Duration(hold * float64(time.Second)))
			record(in, "end", nil)
			return nil, nil
		})
	})

	body := func(_ context.Context, in input) (any, error) { return record(in, "body", nil), nil }
	scenario(options{ID: "throttle", Throttle: &inngestgo.ConfigThrottle{
		Limit: 1, Period: 2 * time.Second, Key: byKey,
	}}, body)
	scenario(options{ID: "rate-limit", RateLimit: &inngestgo.ConfigRateLimit{
		Limit: 1, Period: time.Minute, Key: byKey,
	}}, body)
	scenario(options{ID: "idempotent", Idempotency: byKey}, body)
	scenario(options{ID: "debounce", Debounce: &inngestgo.ConfigDebounce{
		Period: time.Second, Key: *byKey,
	}}, func(_ context.Context, in input) (any, error) {
		record(in, "body", nil)
		return data{"n": in.Event.Data["n"]}, nil
	})

	numbers := func(_ context.Context, in input) (any, error) {
		values := []any{}
		for _, event := range in.Events {
			values = append(values, event.Data["n"])
		}
		return values, nil
	}
	scenario(options{ID: "batch", BatchEvents: &inngestgo.ConfigBatchEvents{
		MaxSize: 3, Timeout: time.Minute, Key: byKey,
	}}, numbers)
	scenario(options{ID: "batch-timeout", BatchEvents: &inngestgo.ConfigBatchEvents{
		MaxSize: 50, Timeout: time.Second, Key: byKey,
	}}, numbers)

	hold := func(ctx context.Context, in input) (any, error) {
		if _, err := do(ctx, in, "before", true); err != nil {
			return nil, err
		}
		step.Sleep(ctx, "hold", 2*time.Second)
		return "done", nil
	}
	scenario(options{ID: "singleton-skip", Singleton: &inngestgo.ConfigSingleton{Key: byKey, Mode: 0}}, hold)
	scenario(options{ID: "singleton-cancel", Singleton: &inngestgo.ConfigSingleton{Key: byKey, Mode: 1}}, hold)

	register(client, options{ID: "cron"}, inngestgo.CronTrigger("* * * * *"), func(_ context.Context, in input) (any, error) {
		record(in, "cron", data{"event": in.Event.Name, "data": in.Event.Data})
		return "tick", nil
	})
}

func gateways(scenario func(options, handler)) {
	scenario(options{ID: "fetch"}, func(ctx context.Context, _ input) (any, error) {
		response, err := step.Fetch[string](ctx, "fetch", step.FetchOpts{
			URL:     stubURL + "/echo",
			Method:  http.MethodPut,
			Headers: map[string]string{"x-trial": "yes"},
			Body:    "hello",
		})
		return data{"status": response.StatusCode, "body": json.RawMessage(strings.TrimSpace(response.Body))}, err
	})

	scenario(options{ID: "fetch-503"}, func(ctx context.Context, _ input) (any, error) {
		response, err := step.Fetch[string](ctx, "fetch", step.FetchOpts{URL: stubURL + "/status/503", Method: http.MethodGet})
		return data{"status": response.StatusCode}, err
	})

	scenario(options{ID: "ai-infer"}, func(ctx context.Context, _ input) (any, error) {
		type answer struct {
			Choices []struct {
				Message struct{ Content string }
			}
			Authorization string
		}
		key := "sk-test"
		reply, err := step.Infer[data, answer](ctx, "ask", step.InferOpts[data]{
			Opts: step.InferOpenAIOpts(&key, &stubURL),
			Body: data{"model": "stub", "messages": []data{{"role": "user", "content": "ping"}}},
		})
		if err != nil {
			return nil, err
		}
		return data{"content": reply.Choices[0].Message.Content, "authorization": reply.Authorization}, nil
	})
}
