import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginBundle;
import org.elasticsearch.plugins.PluginsLoader;

/** One node on loopback: MODULES HOME HTTP_PORT TRANSPORT_PORT [setting=value ...] */
public class ElasticsearchNode {
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
            .put("discovery.type", "single-node");
        for (String setting : List.of(args).subList(4, args.length)) {
            String[] pair = setting.split("=", 2);
            settings.put(pair[0], pair[1]);
        }
        LogConfigurator.configureESLogging();
        var plugins = PluginsLoader.createPluginsLoader(modules(Path.of(args[0])), Set.of(), Map.of(), false);
        Node node = new Node(new Environment(settings.build(), home.resolve("config")), plugins);
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

    /** PluginsLoader.loadModulesBundles(Path), which in newer versions takes a boolean, too. */
    @SuppressWarnings("unchecked")
    static Set<PluginBundle> modules(Path folder) throws Exception {
        for (var method : PluginsLoader.class.getMethods()) {
            if (method.getName().equals("loadModulesBundles")) {
                boolean old = method.getParameterCount() == 1;
                return (Set<PluginBundle>) (old ? method.invoke(null, folder) : method.invoke(null, folder, false));
            }
        }
        throw new NoSuchMethodException("loadModulesBundles");
    }
}
