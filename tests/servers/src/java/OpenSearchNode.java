import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.opensearch.Version;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.Node;
import org.opensearch.plugins.PluginInfo;

/** One node on loopback with its plugins on the class path: UNUSED HOME HTTP_PORT TRANSPORT_PORT [setting=value ...] */
public class OpenSearchNode extends Node {
    private static final List<String> PLUGINS = List.of("transport.Netty4", "index.reindex.Reindex", "index.mapper.MapperExtras");

    /** Version 2 wants classes, version 3 descriptions. */
    @SuppressWarnings({"unchecked", "rawtypes"})
    private OpenSearchNode(Environment environment, List plugins) {
        super(environment, plugins, true);
    }

    public static void main(String[] args) throws Exception {
        Path home = Path.of(args[1]).toAbsolutePath();
        for (String folder : List.of("config", "modules", "plugins")) {
            Files.createDirectories(home.resolve(folder));
        }
        Settings.Builder settings = Settings.builder()
            .put("path.home", home.toString())
            .put("cluster.name", "test")
            .put("node.name", "test")
            .put("network.host", "127.0.0.1")
            .put("http.port", args[2])
            .put("transport.port", args[3])
            .put("transport.type", "netty4")
            .put("http.type", "netty4")
            .put("discovery.type", "single-node");
        for (String setting : List.of(args).subList(4, args.length)) {
            String[] pair = setting.split("=", 2);
            settings.put(pair[0], pair[1]);
        }
        Node node = new OpenSearchNode(new Environment(settings.build(), home.resolve("config")), plugins());
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception e) {
                e.printStackTrace();
            }
        }));
        node.start();
        Thread.currentThread().join();
    }

    private static List<Object> plugins() throws Exception {
        boolean old = Version.CURRENT.major < 3;
        List<Object> plugins = new ArrayList<>();
        for (String name : PLUGINS) {
            String type = "org.opensearch." + name + (old ? "Plugin" : "ModulePlugin");
            plugins.add(old ? Class.forName(type)
                : new PluginInfo(name, "class path", "NA", Version.CURRENT, "21", type, null, List.of(), false));
        }
        return plugins;
    }
}
