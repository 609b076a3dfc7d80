#!/usr/bin/env python3
"""Calls a running netmon-server with a gRPC client that shares no code with it.

    grpc_client.py ADDRESS:PORT TOKEN

Message classes come from the server's reflection alone: nothing here knows the .proto files. Prints what it
saw; ends with an error at the first surprise. Needs grpcio, grpcio-reflection, grpcio-health-checking.
"""

import secrets
import sys
import time

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

PATIENCE_S = 10
SERVICES = {
    "grpc.health.v1.Health",
    "netmon.v1.Collector",
    "netmon.v1.Console",
}


def expect(condition, what):
    """Ends the run unless this holds."""
    if not condition:
        sys.exit(f"grpc_client: expected {what}")


def listed_services(channel, version):
    """What reflection of this version lists. Both versions have the same messages on the wire."""
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="*")
    response = next(call(iter([request]), timeout=PATIENCE_S))
    return {service.name for service in response.list_services_response.service}


class Server:
    """The services as the server itself describes them."""

    def __init__(self, channel):
        self.channel = channel
        self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))

    def message(self, name):
        """The class of a message."""
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(f"netmon.v1.{name}"))

    def method(self, service, name, token):
        """A method, ready to be called."""
        described = self.pool.FindServiceByName(f"netmon.v1.{service}").FindMethodByName(name)
        streams = described.client_streaming, described.server_streaming
        make = {
            (False, False): self.channel.unary_unary,
            (False, True): self.channel.unary_stream,
            (True, True): self.channel.stream_stream,
        }[streams]
        call = make(
            f"/netmon.v1.{service}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(described.output_type).FromString,
        )
        metadata = [("authorization", f"Bearer {token}")] if token is not None else []
        return lambda request: call(request, timeout=PATIENCE_S, metadata=metadata)

    def ended_flow(self, flow_id):
        """One event: a DNS question over UDP that ended just now."""
        now_us = time.time_ns() // 1000
        event = self.message("Event")(time_us=now_us)
        flow = event.flow
        flow.phase = 4  # FLOW_PHASE_END
        flow.flow_id = flow_id
        flow.protocol = 17
        flow.src_ip, flow.dst_ip = bytes([192, 0, 2, 20]), bytes([203, 0, 113, 53])
        flow.src_port, flow.dst_port = 40_000, 53
        flow.direction = 1  # DIRECTION_OUT
        flow.bytes_orig, flow.bytes_reply, flow.packets_orig, flow.packets_reply = 71, 120, 1, 1
        flow.first_seen_us, flow.last_seen_us = now_us - 2_000_000, now_us - 1_000_000
        flow.device, flow.remote = 1, 2  # END_INITIATOR, END_RESPONDER
        return event

    def garbage(self, flow_id):
        """The same with an address of seven bytes."""
        event = self.ended_flow(flow_id)
        event.flow.src_ip = bytes(7)
        return event


def refused(call, request):
    """The status code of a call that must not succeed."""
    try:
        call(request)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def main(address, token):
    channel = grpc.insecure_channel(address)
    grpc.channel_ready_future(channel).result(timeout=PATIENCE_S)

    for version in ("v1", "v1alpha"):
        services = listed_services(channel, version)
        print(f"reflection {version}: {', '.join(sorted(services))}")
        expect(SERVICES <= services, f"{sorted(SERVICES)} from reflection {version}")

    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "netmon.v1.Collector", "netmon.v1.Console"):
        status = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S).status
        print(f"health of {service or 'the server'!r}: {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}")
        expect(status == health_pb2.HealthCheckResponse.SERVING, "SERVING")

    server = Server(channel)
    router = f"foreign-{secrets.token_hex(4)}"
    run = secrets.randbits(32) << 32
    report = server.method("Collector", "Report", token)

    batch = server.message("Batch")(router_id=router)
    batch.events.extend([server.ended_flow(run + 1), server.garbage(run + 2)])
    for wrong in (None, "", token + "x"):
        code = refused(server.method("Collector", "Report", wrong), batch)
        print(f"Report with token {wrong and '...'!r}: {code.name}")
        expect(code == grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")

    ack = report(batch)
    print(f"Report of a good and a bad event: accepted {ack.accepted}, rejected {ack.rejected}")
    for rejection in ack.rejections:
        print(f"  event {rejection.index}: {rejection.reason}")
    expect((ack.accepted, ack.rejected) == (1, 1), "one accepted, one rejected")
    expect([rejection.index for rejection in ack.rejections] == [1], "a reason for the second event")

    repeated = server.message("Batch")(router_id=router, epoch=secrets.randbits(64) | 1, sequence=1)
    repeated.events.append(server.ended_flow(run + 3))
    first, second = report(repeated), report(repeated)
    print(f"Report with a sequence, twice: accepted {first.accepted}, then {second.accepted}")
    expect((first.sequence, first.accepted) == (1, 1), "the first to count")
    expect((second.sequence, second.accepted) == (1, 0), "the second not to count")

    AgentFrame = server.message("AgentFrame")
    hello, frame = AgentFrame(), AgentFrame()
    hello.hello.router_id, hello.hello.epoch, hello.hello.oldest_sequence = router, secrets.randbits(64) | 1, 1
    hello.hello.agent_version, hello.hello.sent_at_us = "grpcio", time.time_ns() // 1000
    frame.batch.sequence = 1
    frame.batch.events.append(server.ended_flow(run + 4))
    answers = server.method("Collector", "Stream", token)(iter([hello, frame]))
    welcome, ack = next(answers).welcome, next(answers).ack
    print(f"Stream: server {welcome.server_version}, at most {welcome.max_events_in_flight} events in flight, "
          f"sequence {ack.sequence} acknowledged")
    expect(welcome.max_events_in_flight > 0, "a welcome")
    expect((ack.sequence, ack.accepted, ack.rejected) == (1, 1, 0), "sequence 1 acknowledged")

    routers = server.method("Console", "ListRouters", token)(server.message("ListRoutersRequest")(text=router)).routers
    known = {known.router_id: known for known in routers}
    print(f"ListRouters: {', '.join(sorted(known))}")
    expect(router in known, f"{router} in the list")
    losses = {loss.cause: loss.count for loss in known[router].losses}
    expect(losses.get(8) == 1, "the refused event as a loss REFUSED")

    flows = server.method("Console", "ListFlows", token)(server.message("ListFlowsRequest")(router_id=router))
    print(f"ListFlows: {len(flows.flows)} of {flows.page.total}")
    expect((len(flows.flows), flows.page.total, flows.page.next_token) == (3, 3, ""), "the three flows that were taken")
    sent = {(flow.src_ip, flow.service_port) for flow in flows.flows}
    expect(sent == {("192.0.2.20", 53)}, "flows as they were sent")

    gaps = server.method("Console", "ListGaps", token)(server.message("ListGapsRequest")(router_id=router, cause=8)).gaps
    print(f"ListGaps: {[(gap.count, gap.detail) for gap in gaps]}")
    expect([(gap.router_id, gap.cause, gap.count) for gap in gaps] == [(router, 8, 1)], "the refused event as a gap")

    tail = server.method("Console", "Tail", token)(server.message("TailRequest")(router_id=router, kinds=["flow"]))
    # The server listens from when it answers the call; then what is committed is told.
    tail.initial_metadata()
    batch = server.message("Batch")(router_id=router)
    batch.events.append(server.ended_flow(run + 5))
    report(batch)
    told = next(tail)
    tail.cancel()
    print(f"Tail: {told.event.WhichOneof('kind')} of {told.router_id}")
    expect((told.router_id, told.event.flow.flow_id, told.missed) == (router, run + 5, 0), "the flow that was reported")

    code = refused(channel.unary_unary("/netmon.v1.NoSuchService/Call"), b"")
    print(f"a service that is not there: {code.name}")
    expect(code == grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
    print("ok")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
