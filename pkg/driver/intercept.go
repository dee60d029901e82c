package driver

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"

	"github.com/keyvault-csi/keyvault-csi/pkg/volume"
)

// intercept runs around every call of a server. It gives the handler a logger, turns errors and panics into a gRPC status,
// and counts and logs the result. describe and answered are those of [Service]. The logger is a parameter because the
// context of a call is that of its connection.
func (d *Driver) intercept(logger klog.Logger, describe func(any) ([]any, int), answered func(any, error) (repeated bool)) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		start := time.Now()
		values, level := describe(req)
		log := logger.WithValues(cut(values)...)
		resp, err := handle(klog.NewContext(ctx, log), req, handler)
		err = toStatus(err)

		repeated := answered(req, err)
		method, code, took := path.Base(info.FullMethod), status.Code(err).String(), time.Since(start)
		d.node.metrics.operations.WithLabelValues(method, code).Observe(took.Seconds())
		switch {
		case err != nil && !repeated:
			log.Error(errors.New(status.Convert(err).Message()), "call failed", "method", method, "code", code, "duration", took.String())
		case log.V(level).Enabled():
			log.V(level).Info("call", "method", method, "code", code, "duration", took.String())
		}
		return resp, err
	}
}

// describe returns all that may be logged of a request, because the rest may be a secret, and the level at which a success
// is logged: 4 if the call changes a volume, 6 if it only reads.
func describe(req any) (values []any, level int) {
	switch r := req.(type) {
	case *csi.NodePublishVolumeRequest:
		pod := r.GetVolumeContext()[volume.KubeletPodNamespace] + "/" + r.GetVolumeContext()[volume.KubeletPodName]
		return []any{"volumeID", r.GetVolumeId(), "target", r.GetTargetPath(), "pod", pod}, 4
	case *csi.NodeUnpublishVolumeRequest:
		return []any{"volumeID", r.GetVolumeId(), "target", r.GetTargetPath()}, 4
	case *csi.NodeGetVolumeStatsRequest:
		return []any{"volumeID", r.GetVolumeId(), "target", r.GetVolumePath()}, 6
	case *csi.NodeGetVolumeHealthRequest:
		return []any{"volumeID", r.GetVolumeId(), "target", r.GetVolumePublishPath()}, 6
	}
	return nil, 6
}

// cut bounds what each log line repeats of a request that has not been checked.
func cut(values []any) []any {
	for i, value := range values {
		if text, ok := value.(string); ok {
			values[i] = text[:min(len(text), 1<<10)]
		}
	}
	return values
}

// handle turns a panic into an error, so that one volume does not end the process.
func handle(ctx context.Context, req any, handler grpc.UnaryHandler) (resp any, err error) {
	defer recoverInto(ctx, &err)
	return handler(ctx, req)
}

// recoverInto must be deferred itself. It logs the type of a panic's value and the functions on the stack: the value may be
// a secret, and package debug prints the arguments of the functions.
func recoverInto(ctx context.Context, err *error) {
	value := recover()
	if value == nil {
		return
	}
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	var stack []string
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		stack = append(stack, fmt.Sprintf("%s %s:%d", f.Function, path.Base(f.File), f.Line))
	}
	klog.FromContext(ctx).Error(nil, "panic", "type", fmt.Sprintf("%T", value), "stack", stack)
	*err = errInternal
}
