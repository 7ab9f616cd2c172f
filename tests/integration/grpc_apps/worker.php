<?php
// A one-call gRPC worker without any library: it answers with its context and the message it got.

function read_exact(int $size): string {
    for ($data = ''; strlen($data) < $size; $data .= $piece) {
        $piece = fread(STDIN, $size - strlen($data));
        if ($piece === '' || $piece === false) exit(0);
    }
    return $data;
}

function write_frame(int $flags, array $options, string $payload): void {
    $start = pack('CCV', 0x10 | (3 + count($options)), $flags, strlen($payload));
    fwrite(STDOUT, $start . pack('VCC', crc32($start), 0, 0) . pack('V*', ...$options) . $payload);
    fflush(STDOUT);
}

while (true) {
    $head = unpack('Cversion/Cflags/Vlength/Vcrc/Cbits/Creserved', read_exact(12));
    $words = ($head['version'] & 15) - 3;
    $options = $words > 0 ? array_values(unpack('V*', read_exact(4 * $words))) : [];
    $payload = $head['length'] ? read_exact($head['length']) : '';
    if ($head['flags'] & 0x01) {
        if (!empty(json_decode($payload, true)['stop'])) exit(0);
        write_frame(0x01, [], json_encode(['pid' => getmypid()]));
    } elseif (!($head['bits'] & 0x0A)) {
        $call = json_decode(substr($payload, 0, $options[0]), true);
        $body = substr($payload, $options[0]);
        if ($body === 'fail') {
            write_frame(0x40, [], '5|:|not in PHP');
            continue;
        }
        $context = json_encode(['headers' => json_encode(['x-mode' => getenv('RR_MODE')])]);
        write_frame(0x08, [strlen($context)], $context . "{$call['service']}/{$call['method']} {$body}");
    }
}
